// The page /ops: asks GET /v1/ops every two seconds and shows what it says.

const EVERY_MS = 2000
const TIMEOUT_MS = 8000
const STALE_MS = 10000
const TOKEN = 'ingest-ops-token'
const MINUTES = 'ingest-ops-minutes'
const BASE = new URL('.', document.baseURI)
const SVG = document.getElementById('blank').namespaceURI

const QUEUES = {
  finishing: 'Finishing',
  read_back: 'Read-back',
  sequencing: 'Sequencing',
  publishing: 'Checkpoints to publish',
  manifests: 'Manifests',
  fixity: 'Fixity, overdue',
}
const CHECKS = {
  database: 'Database',
  migrations: 'Migrations',
  bucket: 'Evidence storage',
  worker: 'Workers',
  custody_log: 'Custody log',
  object_lock: 'Object lock',
  erasing: 'Erasing',
}
const REASONS = { stalled: 'bad', failing: 'warn', slow: 'warn' }
// When a figure is worth a look (warn) or somebody's sleep (bad).
const LAG_WARN_S = 5
const LAG_BAD_S = 60
const CHECKPOINT_BAD_S = 300
const OLDEST_WARN_S = 24 * 3600

const CHARTS = [
  { title: 'Receiving', unit: bytesPerSecond, series: [['received', 'received_bytes_s']], filled: true },
  { title: 'Clips a second', unit: perSecond, series: [['received', 'received_clips_s'], ['secured', 'secured_clips_s']] },
  { title: 'Active uploads', unit: count, whole: true, series: [['uploads', 'active_count']], filled: true },
  {
    title: 'Queue depths', unit: count, whole: true,
    series: [['read-back', 'read_back_count'], ['finishing', 'finishing_count'], ['sequencing', 'sequencing_count'], ['manifests', 'manifest_count']],
  },
  { title: 'At risk on cameras', unit: bytes, series: [['unsecured', 'unsecured_bytes']], filled: true },
  { title: 'Refused and failed requests', unit: perSecond, series: [['refused, busy', 'shed_requests_s'], ['failed', 'failed_requests_s']] },
]

const byId = (id) => document.getElementById(id)
const form = byId('form')
let shown = null
let measuredAtMs = 0
let asking = null
let timer = 0
let waitMs = EVERY_MS

// ---- asking ----------------------------------------------------------------------------------

async function ask() {
  clearTimeout(timer)
  const token = sessionStorage.getItem(TOKEN)
  if (!token || document.hidden) return
  asking?.abort()
  const mine = (asking = new AbortController())
  const cut = setTimeout(() => mine.abort(), TIMEOUT_MS)
  try {
    const answer = await fetch(new URL(`v1/ops?minutes=${minutes()}`, BASE), {
      headers: { Authorization: `Bearer ${token}`, Accept: 'application/json' },
      cache: 'no-store',
      signal: mine.signal,
    })
    const body = await answer.json()
    if (mine !== asking) return
    if (answer.ok) {
      waitMs = EVERY_MS
      measuredAtMs = performance.now()
      show(body)
    } else if (answer.status === 401 || answer.status === 403) {
      signOut(`${body.title}. ${body.remedy}`)
      return
    } else {
      fail(`The service answers: ${body.title}.`, await findMissing())
    }
  } catch {
    if (mine === asking) fail('The service does not answer.', await findMissing())
  } finally {
    clearTimeout(cut)
  }
  timer = setTimeout(ask, waitMs)
}

/** Without figures, /readyz still says what the service lacks, if anything answers at all. */
async function findMissing() {
  try {
    const answer = await fetch(new URL('readyz', BASE), { cache: 'no-store', signal: AbortSignal.timeout(4000) })
    const { checks } = await answer.json()
    showChecks(checks)
    return Object.entries(checks)
      .filter(([, check]) => !check.ok)
      .map(([name, check]) => `${CHECKS[name] ?? name}: ${check.detail}.`)
      .join(' ')
  } catch {
    return ''
  }
}

function fail(what, why) {
  waitMs = Math.min(waitMs * 1.5, STALE_MS)
  setState('bad', 'Unreachable')
  complain([what, why, shown ? 'Below is what was known last.' : 'It is asked again by itself.'].filter(Boolean).join(' '))
  age()
}

function minutes() {
  return document.querySelector('input[name=minutes]:checked').value
}

function signOut(why) {
  clearTimeout(timer)
  asking?.abort()
  sessionStorage.removeItem(TOKEN)
  shown = null
  byId('figures').hidden = byId('tools').hidden = true
  form.hidden = false
  byId('measured').textContent = ''
  setState('waiting', 'Not connected')
  complain(why ?? '')
  byId('token').focus()
}

function complain(text) {
  const banner = byId('banner')
  if (banner.textContent !== text) banner.textContent = text
  banner.hidden = !text
}

function setState(state, text) {
  byId('state').dataset.state = state
  if (byId('state-text').textContent !== text) {
    byId('state-text').textContent = text
    byId('news').textContent = `Service: ${text}`
  }
}

/** Say how old the figures are; whoever sees old ones must see that they are. */
function age() {
  if (!shown) return
  const oldMs = performance.now() - measuredAtMs
  const isStale = oldMs > STALE_MS
  document.body.dataset.stale = isStale ? 'yes' : 'no'
  const at = new Date(shown.measured_at).toLocaleTimeString([], { hour12: false })
  byId('measured').textContent = `${isStale ? 'Stale: m' : 'M'}easured ${duration(oldMs / 1000)} ago, ${at}. Version ${shown.version}`
  if (isStale && byId('state').dataset.state !== 'bad') setState('warn', 'Stale')
}

// ---- showing ---------------------------------------------------------------------------------

function show(now) {
  shown = now
  form.hidden = true
  byId('figures').hidden = byId('tools').hidden = false
  complain('')
  const troubles = Object.values(now.readiness.checks).filter((check) => !check.ok).length
  if (now.readiness.status !== 'ready') setState('bad', 'Not ready')
  else if (troubles) setState('warn', 'Ready, with a warning')
  else setState('good', 'Ready')
  age()
  showTiles(now)
  showCharts(now.history)
  showChecks(now.readiness.checks)
  showBoroughs(now.uploads.boroughs)
  showQueues(now)
  showStations(now.stations, now.measured_at)
}

function showTiles({ rate, uploads, at_risk: risk, custody_log: log, measured_at: at }) {
  const oldest = secondsSince(risk.unsecured_since, at)
  tile('received', bytesPerSecond(rate.received_bytes_s), clipsPerSecond(rate.received_clips_s))
  tile('secured', clipsPerSecond(rate.secured_clips_s), `${bytesPerSecond(rate.secured_bytes_s)}, read back`,
    rate.quarantined_clips_s > 0 ? 'bad' : '')
  tile('uploads', count(uploads.active_count), `${bytes(uploads.left_bytes)} to come; ${count(uploads.open_count)} open in all`)
  tile('risk', bytes(risk.unsecured_bytes),
    risk.unsecured_count ? `${count(risk.unsecured_count)} recordings, oldest ${duration(oldest)}` : 'nothing is known to be unsafe',
    oldest > OLDEST_WARN_S ? 'warn' : '')
  tile('stalled', count(risk.stalled_count), risk.stalled_count ? 'no progress for 30 minutes' : 'all that hold something get on',
    risk.stalled_count ? 'bad' : '')
  tile('trouble', perSecond(rate.shed_requests_s + rate.failed_requests_s),
    `${perSecond(rate.shed_requests_s)} refused (busy), ${perSecond(rate.failed_requests_s)} failed`,
    rate.failed_requests_s > 0 ? 'bad' : rate.shed_requests_s > 0 ? 'warn' : '')
  tile('lag', log.halted_reason ? 'Halted' : duration(log.lag_s),
    log.halted_reason ?? `${count(log.lag_events)}${log.lag_events >= 10000 ? '+' : ''} events wait`,
    log.halted_reason || log.lag_s > LAG_BAD_S ? 'bad' : log.lag_s > LAG_WARN_S ? 'warn' : '')
  const { checkpoint } = log
  tile('checkpoint', checkpoint ? `${duration(checkpoint.age_s)} ago` : 'None yet',
    checkpoint ? `${count(checkpoint.tree_size)} of ${count(log.tree_size)} events` : 'the log is empty',
    checkpoint && checkpoint.tree_size < log.tree_size && checkpoint.age_s > CHECKPOINT_BAD_S ? 'bad' : '')
}

function tile(name, big, small, level = '') {
  const box = byId(`tile-${name}`)
  box.dataset.level = level
  box.querySelector('.big').textContent = big
  box.querySelector('.soft').textContent = small
}

function showBoroughs(boroughs) {
  const most = Math.max(1, ...boroughs.map((each) => each.active_count))
  fill('boroughs', 'No upload is active.', boroughs.map((each) => {
    const name = make('th', each.borough, { scope: 'row' })
    const bar = make('span', '', { class: 'share', 'aria-hidden': 'true' })
    bar.style.setProperty('--share', each.active_count / most)
    name.append(bar)
    return [name, number(count(each.active_count)), number(bytes(each.left_bytes))]
  }))
}

function showQueues({ queues, webhooks, measured_at: at }) {
  const rows = queues.map((queue) => [
    make('th', QUEUES[queue.name] ?? queue.name, { scope: 'row' }),
    number(count(queue.waiting_count) + (queue.is_more ? '+' : '')),
    number(queue.waiting_since ? duration(secondsSince(queue.waiting_since, at)) : '–'),
  ])
  const notes = [
    webhooks.failing_count ? `${count(webhooks.failing_count)} failing` : '',
    webhooks.disabled_count ? `${count(webhooks.disabled_count)} disabled` : '',
  ].filter(Boolean).join(', ')
  const name = make('th', 'Webhooks, events behind', { scope: 'row' })
  rows.push([name, number(count(webhooks.lag_events)), number(notes || '–', notes ? 'warn' : '')])
  fill('queues', '', rows)
}

function showChecks(checks) {
  fill('checks', '', Object.entries(checks).map(([name, check]) => [
    make('th', CHECKS[name] ?? name, { scope: 'row' }),
    make('td', check.ok ? '✓ ok' : `✗ ${check.detail}`, { class: check.ok ? 'good' : 'bad' }),
  ]))
}

function showStations(stations, at) {
  fill('stations', 'None stands out.', stations.map((each) => {
    const why = make('td', '')
    why.append(...each.reasons.map((reason) => make('span', reason, { class: `tag ${REASONS[reason] ?? ''}` })))
    return [
      make('th', each.station_id, { scope: 'row', title: `site ${each.site_id}` }),
      make('td', each.borough),
      why,
      number(each.request_count ? `${count(each.failed_count)} of ${count(each.request_count)}` : '–'),
      number(each.stream_bytes_s === null ? '–' : bytesPerSecond(each.stream_bytes_s)),
      number(bytes(each.unsecured_bytes)),
      number(each.last_progress_at ? `${duration(secondsSince(each.last_progress_at, at))} ago` : '–'),
    ]
  }))
}

function fill(id, empty, rows) {
  const body = byId(id)
  const made = rows.map((cells) => {
    const row = make('tr', '')
    row.append(...cells)
    return row
  })
  if (!made.length) {
    const row = make('tr', '')
    row.append(make('td', empty, { colspan: '9', class: 'soft' }))
    made.push(row)
  }
  body.replaceChildren(...made)
}

function number(text, level = '') {
  return make('td', text, { class: `number ${level}` })
}

function make(name, text, attributes = {}, space = null) {
  const made = space ? document.createElementNS(space, name) : document.createElement(name)
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value)
  if (text) made.textContent = text
  return made
}

// ---- charts ----------------------------------------------------------------------------------

const EDGE = { top: 8, right: 10, bottom: 20, left: 62 }
const HEIGHT = 152

for (const chart of CHARTS) {
  const box = make('figure', '', { class: 'chart' })
  box.style.margin = '0'
  chart.legend = make('div', '', { class: 'legend' })
  chart.svg = make('svg', '', { role: 'img' }, SVG)
  chart.at = null
  box.append(make('h2', chart.title), chart.legend, chart.svg)
  byId('charts').append(box)
  chart.svg.addEventListener('pointermove', (event) => {
    chart.at = event.offsetX
    draw(chart)
  })
  chart.svg.addEventListener('pointerleave', () => {
    chart.at = null
    draw(chart)
  })
}

function showCharts(history) {
  for (const chart of CHARTS) {
    chart.history = history
    draw(chart)
  }
}

function draw(chart) {
  const points = chart.history?.points
  if (!points?.length) return
  const width = Math.max(240, chart.svg.clientWidth)
  const times = points.map((point) => Date.parse(point.at))
  const [first, last] = [times[0], times[times.length - 1]]
  const tops = chart.series.flatMap(([, name]) => points.map((point) => point[name] ?? 0))
  const top = niceTop(Math.max(...tops), chart.whole)
  const x = (time) => EDGE.left + ((time - first) / (last - first || 1)) * (width - EDGE.left - EDGE.right)
  const y = (value) => HEIGHT - EDGE.bottom - (value / top) * (HEIGHT - EDGE.top - EDGE.bottom)
  const made = [...axes(chart, x, y, width, top, first, last)]
  const marked = mark(chart, times, x)
  chart.series.forEach(([, name], number) => {
    for (const run of runs(points, times, name, chart.history.step_s)) {
      const line = run.map(([time, value], index) => `${index ? 'L' : 'M'}${x(time).toFixed(1)} ${y(value).toFixed(1)}`).join('')
      if (chart.filled) {
        const base = y(0).toFixed(1)
        made.push(path(`${line}L${x(run[run.length - 1][0]).toFixed(1)} ${base}L${x(run[0][0]).toFixed(1)} ${base}Z`, `area series-${number}`))
      }
      made.push(path(line, `curve series-${number}`))
    }
    const value = points[marked]?.[name]
    if (chart.at !== null && value != null) {
      made.push(make('circle', '', { cx: x(times[marked]), cy: y(value), r: 3.5, class: `series-${number}` }, SVG))
    }
  })
  if (chart.at !== null) {
    const at = x(times[marked])
    made.push(make('line', '', { x1: at, x2: at, y1: EDGE.top, y2: HEIGHT - EDGE.bottom, class: 'mark' }, SVG))
  }
  chart.svg.setAttribute('viewBox', `0 0 ${width} ${HEIGHT}`)
  chart.svg.setAttribute('aria-label', describe(chart, points))
  chart.svg.replaceChildren(...made)
  legend(chart, points, marked)
}

function* axes(chart, x, y, width, top, first, last) {
  for (const share of [0, 0.5, 1]) {
    const level = y(top * share)
    yield make('line', '', { x1: EDGE.left, x2: width - EDGE.right, y1: level, y2: level, class: 'grid' }, SVG)
    yield make('text', chart.unit(top * share), { x: EDGE.left - 6, y: level + 4, 'text-anchor': 'end', class: 'axis' }, SVG)
  }
  const ticks = Math.max(2, Math.min(5, Math.floor(width / 110)))
  for (let tick = 0; tick < ticks; tick += 1) {
    const time = first + ((last - first) * tick) / (ticks - 1)
    const anchor = tick === 0 ? 'start' : tick === ticks - 1 ? 'end' : 'middle'
    const text = new Date(time).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', hour12: false })
    yield make('text', text, { x: x(time), y: HEIGHT - 4, 'text-anchor': anchor, class: 'axis' }, SVG)
  }
}

/** Lines of a series: cut where no worker took samples for a while, drawn over a single miss. */
function runs(points, times, name, stepS) {
  const found = []
  let before = -Infinity
  points.forEach((point, index) => {
    const value = point[name]
    if (value === null || value === undefined) return
    if (times[index] - before > Math.max(3 * stepS, 30) * 1000) found.push([])
    found[found.length - 1].push([times[index], value])
    before = times[index]
  })
  return found
}

function mark(chart, times, x) {
  if (chart.at === null) return times.length - 1
  const gaps = times.map((time) => Math.abs(x(time) - chart.at))
  return gaps.indexOf(Math.min(...gaps))
}

function path(d, name) {
  return make('path', '', { d, class: name }, SVG)
}

function legend(chart, points, marked) {
  const keys = chart.series.map(([label, name], number) => {
    const key = make('span', `${label} `, { class: `key series-${number}` })
    const value = chart.at === null ? latest(points, name) : points[marked][name]
    key.append(make('b', value == null ? '–' : chart.unit(value)))
    return key
  })
  if (chart.at !== null) keys.push(make('span', new Date(points[marked].at).toLocaleTimeString([], { hour12: false })))
  chart.legend.replaceChildren(...keys)
}

function latest(points, name) {
  for (let index = points.length - 1; index >= 0; index -= 1) {
    if (points[index][name] != null) return points[index][name]
  }
  return null
}

function describe(chart, points) {
  const parts = chart.series.map(([label, name]) => {
    const value = latest(points, name)
    const peak = Math.max(...points.map((point) => point[name] ?? 0))
    return `${label}: ${value == null ? 'no samples' : `${chart.unit(value)} now, at most ${chart.unit(peak)}`}`
  })
  return `${chart.title} over ${chart.history.minutes} minutes. ${parts.join('; ')}`
}

function niceTop(most, isWhole) {
  if (!(most > 0)) return isWhole ? 2 : 1
  const size = 10 ** Math.floor(Math.log10(most))
  const top = [1, 2, 4, 5, 10].map((each) => each * size).find((each) => each >= most * 1.02) ?? 10 * size
  return isWhole ? Math.max(2, top) : top
}

// ---- words -----------------------------------------------------------------------------------

function bytes(amount) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB']
  let size = amount
  let unit = 0
  while (size >= 999.5 && unit < units.length - 1) {
    size /= 1000
    unit += 1
  }
  return `${unit === 0 || size >= 100 ? Math.round(size) : size.toFixed(size >= 10 || size === 0 ? 1 : 2).replace(/\.0+$/, '')} ${units[unit]}`
}

function bytesPerSecond(amount) {
  return `${bytes(amount)}/s`
}

function count(amount) {
  return Math.round(amount).toLocaleString('en-GB')
}

function perSecond(amount) {
  return `${short(amount)}/s`
}

function clipsPerSecond(amount) {
  return `${short(amount)} clips/s`
}

function short(amount) {
  if (amount >= 100) return count(amount)
  return amount.toFixed(amount >= 10 ? 1 : 2).replace(/\.?0+$/, '')
}

function secondsSince(moment, now) {
  return moment ? Math.max(0, (Date.parse(now) - Date.parse(moment)) / 1000) : 0
}

function duration(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`
  if (seconds < 2 * 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`
  return `${Math.floor(seconds / 86400)} days`
}

// ---- start -----------------------------------------------------------------------------------

form.addEventListener('submit', (event) => {
  event.preventDefault()
  const token = byId('token').value.trim()
  if (!token) {
    complain('Enter an access token.')
    return
  }
  sessionStorage.setItem(TOKEN, token)
  byId('token').value = ''
  complain('')
  setState('waiting', 'Asking')
  ask()
})
byId('leave').addEventListener('click', () => signOut())
for (const choice of document.querySelectorAll('input[name=minutes]')) {
  choice.checked = choice.value === (sessionStorage.getItem(MINUTES) ?? '60')
  choice.addEventListener('change', () => {
    sessionStorage.setItem(MINUTES, minutes())
    ask()
  })
}
document.addEventListener('visibilitychange', ask)
new ResizeObserver(() => CHARTS.forEach(draw)).observe(byId('charts'))
setInterval(age, 1000)
if (sessionStorage.getItem(TOKEN)) ask()
