// The page /upload: Uppy sends by tus, this shows how far it is and fetches the receipt.
import { RateLimitedQueue, Tus, Uppy } from './uppy.js'

const FIELDS = ['device_serial', 'recording_id', 'started_at', 'officer_id', 'incident_id', 'crime_ref', 'title']
const MADE_BY = 'upload page'
// They begin anew with every progress; after the last one the person is asked.
const RETRY_DELAYS_MS = [0, 1000, 3000, 5000, 10000, 20000, 30000]
const AT_ONCE = 3
const RECEIPT_EVERY_MS = 2000
const RECEIPT_WAIT_MAX_MS = 15000
// Uploads that nobody goes on with are gone by then.
const NOTES_KEPT_MS = 7 * 24 * 3600 * 1000
const NOTES = 'ingest-upload::'
const BASE = new URL('.', document.baseURI)

const form = document.getElementById('form')
const list = document.getElementById('list')
const token = form.elements.token
const rows = new Set()
const queue = new RateLimitedQueue(AT_ONCE)

// ---- where an upload goes on, kept over a reload -------------------------------------------

/** Remembers URLs of unfinished uploads: no name of a person, nothing that was typed but the serial. */
class Notes {
  constructor(serial) {
    this.serial = serial
  }

  async findAllUploads() {
    return []
  }

  async findUploadsByFingerprint(fingerprint) {
    const key = this.#key(fingerprint)
    const noted = read(key)
    return noted ? [{ ...noted, metadata: {}, urlStorageKey: key, parallelUploadUrls: null }] : []
  }

  async removeUpload(key) {
    localStorage.removeItem(key)
  }

  async addUpload(fingerprint, upload) {
    const key = this.#key(fingerprint)
    const { size, uploadUrl } = upload
    localStorage.setItem(key, JSON.stringify({ size, uploadUrl, creationTime: new Date().toISOString() }))
    return key
  }

  #key(fingerprint) {
    return `${NOTES}${this.serial}::${fingerprint}`
  }
}

function read(key) {
  try {
    return JSON.parse(localStorage.getItem(key))
  } catch {
    return null
  }
}

function forgetOldNotes() {
  for (const key of Object.keys(localStorage).filter((each) => each.startsWith(NOTES))) {
    const noted = read(key)
    if (!noted || !(Date.parse(noted.creationTime) > Date.now() - NOTES_KEPT_MS)) localStorage.removeItem(key)
  }
}

// ---- sending ---------------------------------------------------------------------------------

/** One file: what is shown of it, and what is known of its clip. */
class Row {
  constructor(file) {
    this.file = file
    this.state = 'ready'
    this.told = 0
    this.element = document.getElementById('row').content.firstElementChild.cloneNode(true)
    this.part = (name) => this.element.querySelector(name)
    this.part('h3').textContent = file.name
    this.part('progress').setAttribute('aria-label', `Progress of ${file.name}`)
    list.append(this.element)
    rows.add(this)
    this.show('ready', `Ready to send: ${bytes(file.size)}`)
  }

  /** Sends when no other tab is sending the same file. */
  async begin() {
    const name = [NOTES, this.meta.device_serial, this.file.name, this.file.size, this.file.lastModified].join('/')
    if (!navigator.locks) return this.send()
    const isDone = await navigator.locks.request(name, { ifAvailable: true }, async (lock) => {
      if (lock) await this.send()
      return lock !== null
    })
    if (isDone || this.state === 'gone') return undefined
    this.show('waiting', 'Waiting: another tab of this browser is sending the same file.')
    return navigator.locks.request(name, () => (this.state === 'gone' ? undefined : this.send()))
  }

  /** Resolves once the file is stored or removed: while somebody is to press Continue, it is ours. */
  send() {
    // One Uppy per file: one that failed neither holds up nor restarts the others.
    this.uppy = new Uppy().use(Tus, {
      endpoint: new URL('files', BASE).href,
      retryDelays: RETRY_DELAYS_MS,
      rateLimitedQueue: queue,
      allowedMetaFields: Object.keys(this.meta),
      urlStorage: new Notes(this.meta.device_serial),
      onBeforeRequest: (request) => request.setHeader('Authorization', `Bearer ${token.value.trim()}`),
      onAfterResponse: (_, answer) => {
        this.clipId = answer.getHeader('Ingest-Clip-Id') || this.clipId
      },
    })
    this.uppy.on('upload-progress', (_, progress) => this.progress(progress.bytesUploaded))
    this.uppy.on('upload-success', () => this.stored())
    this.uppy.on('upload-error', (_, error, response) => this.fail(error, response))
    this.show('sending', 'Starting ...')
    this.id = this.uppy.addFile({ name: this.file.name, type: this.file.type, data: this.file, meta: this.meta })
    this.uppy.upload().catch(() => {})
    return new Promise((resolve) => {
      this.settle = resolve
    })
  }

  progress(sent) {
    if (this.state !== 'sending') return
    const share = this.file.size ? Math.floor((100 * sent) / this.file.size) : 100
    this.part('progress').value = share
    this.part('.state').textContent = `Sending: ${bytes(sent)} of ${bytes(this.file.size)}`
    if (share >= this.told + 25) {
      this.told = share - (share % 25)
      tell(`${this.file.name}: ${this.told} per cent`)
    }
  }

  pause() {
    this.uppy.pauseResume(this.id)
    this.show('paused', `Paused at ${this.part('progress').value} per cent.`)
  }

  goOn() {
    const wasPaused = this.state === 'paused'
    this.show('sending', 'Going on ...')
    if (wasPaused) this.uppy.pauseResume(this.id)
    else this.uppy.retryUpload(this.id).catch(() => {})
  }

  remove() {
    this.state = 'gone'
    // What was sent of it is taken back, too.
    this.uppy?.removeFile(this.id)
    this.element.remove()
    rows.delete(this)
    this.settle?.()
    showWhetherEmpty()
    form.elements.files.focus()
    tell(`${this.file.name} is removed.`)
  }

  fail(error, response) {
    const problem = parse(response?.body?.xhr?.responseText)
    if (response?.status === 401) {
      this.show('failed', 'The access token is not valid, or no longer. Enter another one above, then continue.')
      token.setAttribute('aria-invalid', 'true')
    } else if (problem) {
      this.show('failed', `Stopped: ${problem.title}. ${problem.remedy ?? ''}`, problem.detail)
    } else {
      this.show('failed', 'Stopped: the service cannot be reached. What it has is kept.', error?.message)
    }
  }

  async stored() {
    this.part('progress').value = 100
    this.settle()
    this.show('stored', 'Stored. It is now read back and compared; keep this page open.', `Clip ${this.clipId}`)
    let wait = RECEIPT_EVERY_MS
    while (this.state === 'stored') {
      const isDone = await this.askReceipt().catch(() => false)
      if (isDone) return
      await new Promise((resolve) => setTimeout(resolve, wait))
      wait = Math.min(wait * 1.5, RECEIPT_WAIT_MAX_MS)
    }
  }

  async askReceipt() {
    const answer = await fetch(new URL(`v1/clips/${this.clipId}/receipt`, BASE), {
      headers: { Authorization: `Bearer ${token.value.trim()}` },
      cache: 'no-store',
      credentials: 'omit',
    })
    const text = await answer.text()
    if (answer.status === 401) {
      this.part('.detail').textContent = 'The access token is no longer valid: enter another one above to see the receipt.'
      token.setAttribute('aria-invalid', 'true')
    }
    if (answer.status === 202 && parse(text)?.state === 'quarantined') {
      this.show('quarantined', 'Not secured: what is stored is not what was expected. Keep the recording on the '
        + 'camera and report this clip.', `Clip ${this.clipId}`)
      return true
    }
    return answer.status === 200 && this.secured(text)
  }

  secured(receipt) {
    const facts = parse(parse(receipt)?.leaf)?.facts
    if (facts?.clip_id !== this.clipId || facts?.size_bytes !== this.file.size) {
      this.show('quarantined', 'The receipt is for another file. Keep the recording on the camera and report this clip.',
        `Clip ${this.clipId}`)
      return true
    }
    this.receipt = receipt
    this.show('secured', 'Secured. Keep the receipt with the camera\'s papers.',
      `Clip ${this.clipId}, ${facts.size_bytes} bytes, SHA-256 ${facts.sha256_readback}`)
    return true
  }

  download() {
    const link = document.createElement('a')
    link.href = URL.createObjectURL(new Blob([this.receipt], { type: 'application/json' }))
    link.download = `receipt-${this.clipId}.json`
    link.click()
    setTimeout(() => URL.revokeObjectURL(link.href), 1000)
  }

  show(state, text, detail = '') {
    const isNews = state !== this.state
    this.state = state
    this.element.dataset.state = state
    this.part('.state').textContent = text
    this.part('.state').className = `state ${{ secured: 'good', failed: 'bad', quarantined: 'bad' }[state] ?? ''}`
    this.part('.detail').textContent = detail
    this.showButtons(BUTTONS[state] ?? [])
    if (isNews) tell(`${this.file.name}: ${text}`)
  }

  showButtons(wanted) {
    const box = this.part('.buttons')
    const hadFocus = box.contains(document.activeElement)
    box.replaceChildren(...wanted.map(([label, act, main]) => {
      const button = document.createElement('button')
      button.type = 'button'
      button.textContent = label
      button.className = main ? 'main' : ''
      button.setAttribute('aria-label', `${label}: ${this.file.name}`)
      button.addEventListener('click', () => this[act]())
      return button
    }))
    // Who pressed Pause by the keyboard stands on Continue now.
    if (hadFocus) box.firstElementChild?.focus()
  }
}

const BUTTONS = {
  ready: [['Remove', 'remove']],
  waiting: [['Remove', 'remove']],
  sending: [['Pause', 'pause', true]],
  paused: [['Continue', 'goOn', true], ['Stop and remove', 'remove']],
  failed: [['Continue', 'goOn', true], ['Stop and remove', 'remove']],
  secured: [['Download receipt', 'download', true]],
}

// ---- the form --------------------------------------------------------------------------------

form.elements.files.addEventListener('change', () => {
  for (const file of form.elements.files.files) new Row(file)
  form.elements.files.value = ''
  showWhetherEmpty()
})

token.addEventListener('input', () => token.removeAttribute('aria-invalid'))

form.addEventListener('submit', (event) => {
  event.preventDefault()
  const waiting = [...rows].filter((row) => row.state === 'ready')
  const complaint = findComplaint(waiting)
  document.getElementById('problem').textContent = complaint ?? ''
  if (complaint) return
  for (const row of waiting) {
    row.meta = describe(row.file, waiting.length)
    row.begin()
  }
})

function findComplaint(waiting) {
  for (const name of ['token', 'device_serial']) {
    const input = form.elements[name]
    const isMissing = !input.value.trim()
    input.setAttribute('aria-invalid', String(isMissing))
    if (isMissing) {
      input.focus()
      return `Please fill in: ${form.querySelector(`label[for=${name}]`).textContent}.`
    }
  }
  if (/[^\x21-\x7e]/.test(token.value.trim())) {
    token.focus()
    return 'The access token has characters that no token has. Copy it once more.'
  }
  if (!waiting.length) {
    form.elements.files.focus()
    return 'Please choose a file.'
  }
  return null
}

/** What the service is told of a file; what is not known is not said. */
function describe(file, count) {
  const said = Object.fromEntries(FIELDS.map((name) => [name, form.elements[name].value.trim()]))
  if (count > 1 || !said.recording_id) said.recording_id = file.name.replace(/\.[^.]*$/, '')
  if (said.started_at) said.started_at = new Date(said.started_at).toISOString()
  const meta = { ...said, filename: file.name, filetype: file.type, upload_tool: MADE_BY }
  return Object.fromEntries(Object.entries(meta).filter(([, value]) => value))
}

function showWhetherEmpty() {
  document.getElementById('empty').hidden = list.childElementCount > 0
}

function tell(text) {
  document.getElementById('news').textContent = text
}

function parse(text) {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}

function bytes(count) {
  const units = ['bytes', 'kB', 'MB', 'GB', 'TB']
  const step = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, count)) / 3))
  return step ? `${(count / 1000 ** step).toFixed(1)} ${units[step]}` : `${count} bytes`
}

window.addEventListener('beforeunload', (event) => {
  if ([...rows].some((row) => row.state === 'sending')) event.preventDefault()
})

forgetOldNotes()
