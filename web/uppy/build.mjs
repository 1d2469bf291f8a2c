// node build.mjs INSTALLED OUT: bundle entry.mjs with what is installed, into OUT/uppy.js, with the
// licences of all that is in it. The same lock file gives the same bytes.
import { createRequire } from 'node:module'
import { copyFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'

const [installed, out] = process.argv.slice(2).map((folder) => resolve(folder))
const here = fileURLToPath(new URL('.', import.meta.url))
const esbuild = createRequire(join(installed, 'package.json'))('esbuild')
copyFileSync(join(here, 'entry.mjs'), join(installed, 'entry.mjs'))

const { metafile } = await esbuild.build({
  absWorkingDir: installed,
  entryPoints: ['entry.mjs'],
  outfile: join(out, 'uppy.js'),
  bundle: true,
  format: 'esm',
  platform: 'browser',
  target: 'es2022',
  minify: true,
  legalComments: 'none',
  metafile: true,
  banner: { js: '// Made by web/uppy/build.mjs; licences in uppy.LICENSES.txt.' },
  logLevel: 'warning',
})

const [{ inputs }] = Object.values(metafile.outputs)
const names = new Set()
for (const [path, { bytesInOutput }] of Object.entries(inputs)) {
  const matched = path.match(/node_modules\/((?:@[^/]+\/)?[^/]+)\//)
  if (matched && bytesInOutput > 0) names.add(matched[1])
}
const texts = [...names].sort().map((name) => {
  const folder = join(installed, 'node_modules', name)
  const { version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
  const file = readdirSync(folder).sort().find((each) => /^licen[cs]e/i.test(each))
  const text = file ? readFileSync(join(folder, file), 'utf8') : `Licensed under ${license}.`
  return `${name} ${version} (${license})\n\n${text.replaceAll('\r\n', '\n').trim()}\n`
})
writeFileSync(join(out, 'uppy.LICENSES.txt'), texts.join(`\n${'-'.repeat(78)}\n\n`))
if (!existsSync(join(out, 'uppy.js'))) process.exit(1)
