// The parts of the report page that are no TypeScript: our own script and style, and the plotting library, which a page carries in itself.
// They are copied into dist, so that nobody who installs headwise needs the library's packages.

import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { root } from './setup.mjs'

const from = path.join(root, 'ts/eval/report/assets')
const to = path.join(root, 'dist/eval/report/assets')
const LIBRARIES = { d3: 'dist/d3.min.js', '@observablehq/plot': 'dist/plot.umd.min.js' }

cpSync(from, to, { recursive: true })
mkdirSync(path.join(to, 'vendor'), { recursive: true })
for (const [name, file] of Object.entries(LIBRARIES)) {
  const folder = path.join(root, 'node_modules', name)
  const { version, license } = JSON.parse(readFileSync(path.join(folder, 'package.json'), 'utf8'))
  const notice = `/*! ${name} ${version}, ${license}\n${readFileSync(path.join(folder, 'LICENSE'), 'utf8').trim()}\n*/\n`
  writeFileSync(path.join(to, 'vendor', path.basename(file)), notice + readFileSync(path.join(folder, file), 'utf8'))
}
