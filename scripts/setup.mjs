// Everything that stands between a bare clone and a working headwise, each step only when it is needed: the npm
// packages, the native addon, the compiled TypeScript. Plain Node, because it runs before any package is there.
// Usage: node scripts/setup.mjs   (or import { setup })

import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

export const root = fileURLToPath(new URL('..', import.meta.url))

/** Sources of the addon; the tests' crate is none of them. */
const NATIVE_SOURCES = ['core', 'kernels', 'cache', 'policy', 'model', 'engine', 'node']
  .map((name) => `crates/${name}`)
  .concat('Cargo.toml', 'Cargo.lock', 'build.rs', 'rust-toolchain.toml')

/** Brings the clone up to date. Talks on stderr, since stdout belongs to the program that comes after. */
export function setup() {
  const [major = 0] = process.versions.node.split('.').map(Number)
  if (major < 20) fail(`Node 20 or later is needed; this is ${process.versions.node}`)
  if (!packagesAreCurrent())
    step('installing npm packages', 'npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'])
  if (!addonIsCurrent()) {
    if (spawnSync('cargo', ['--version'], { stdio: 'ignore' }).status !== 0) {
      fail('Rust is needed to build the native addon: https://rustup.rs')
    }
    const first = !existsSync(path.join(root, 'target', 'release'))
    step(`building the native addon${first ? ' (the first time takes minutes)' : ''}`, 'npm', [
      'run',
      '--silent',
      'build:native',
    ])
  }
  if (!distIsCurrent()) step('compiling TypeScript', 'npm', ['run', '--silent', 'build:ts'])
}

/** Whether node_modules holds what the lockfile says; optional packages of other platforms are not there. */
function packagesAreCurrent() {
  const wanted = readJson('package-lock.json')
  const present = readJson('node_modules/.package-lock.json')
  if (!wanted) fail('package-lock.json is missing')
  if (!present) return false
  return Object.entries(wanted.packages).every(
    ([name, { version, optional, link }]) =>
      name === '' || link || (optional && !present.packages[name]) || present.packages[name]?.version === version,
  )
}

function addonIsCurrent() {
  const addons = readdirSync(root).filter((name) => name.endsWith('.node'))
  if (addons.length === 0 || !existsSync(path.join(root, 'index.js'))) return false
  const built = Math.min(...addons.map((name) => statSync(path.join(root, name)).mtimeMs))
  return newest(NATIVE_SOURCES) < built
}

function distIsCurrent() {
  const entry = path.join(root, 'dist', 'index.js')
  return (
    existsSync(entry) &&
    newest(['ts', 'index.d.ts', 'tsconfig.json', 'package-lock.json', 'scripts/assets.mjs']) < statSync(entry).mtimeMs
  )
}

/** Newest modification below these paths; folders count, so that a deleted file is seen too. */
function newest(/** @type {string[]} */ names) {
  let latest = 0
  const visit = (/** @type {string} */ file) => {
    const info = statSync(file, { throwIfNoEntry: false })
    if (!info) return
    latest = Math.max(latest, info.mtimeMs)
    if (info.isDirectory()) for (const name of readdirSync(file)) visit(path.join(file, name))
  }
  for (const name of names) visit(path.join(root, name))
  return latest
}

/** Runs a command; its output is shown live on a terminal and in full when it fails. */
function step(/** @type {string} */ what, /** @type {string} */ command, /** @type {string[]} */ args) {
  const start = performance.now()
  process.stderr.write(`headwise: ${what} …\n`)
  const live = process.stderr.isTTY
  const result = spawnSync(command, args, {
    cwd: root,
    // Output goes to stderr (2) on a terminal, else into a buffer that is only shown when it matters.
    stdio: ['ignore', live ? 2 : 'pipe', live ? 2 : 'pipe'],
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    shell: process.platform === 'win32',
  })
  if (result.status !== 0) {
    fail(`${what} failed\n${result.error?.message ?? ''}${result.stdout ?? ''}${result.stderr ?? ''}`)
  }
  process.stderr.write(`headwise: ${what}: done in ${((performance.now() - start) / 1000).toFixed(1)} s\n`)
}

/** @returns {any} */
function readJson(/** @type {string} */ name) {
  try {
    return JSON.parse(readFileSync(path.join(root, name), 'utf8'))
  } catch {
    return undefined
  }
}

/** @returns {never} */
function fail(/** @type {string} */ message) {
  process.stderr.write(`headwise: ${message}\n`)
  process.exit(1)
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) setup()
