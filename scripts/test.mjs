// npm test: set-up, then every suite with its own output, then one line that adds them up. A suite that fails does not
// stop the next one. Usage: node scripts/test.mjs [rust] [golden] [types] [ts] [isa]   (default: all)

import { execFileSync, spawn } from 'node:child_process'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { stripVTControlCharacters } from 'node:util'
import { root, setup } from './setup.mjs'

/**
 * @typedef {{ passed: number, failed: number, skipped: number }} Counts
 * @typedef {{ name: string, command: string, args: string[], count: (output: string) => Counts, build?: string[], optional?: boolean }} Suite
 */

/** Where programs are built: for the host, which .cargo/config.toml names. */
const built = () => {
  const host = execFileSync('rustc', ['--print', 'host-tuple'], { cwd: root, encoding: 'utf8' }).trim()
  return path.join(process.env.CARGO_TARGET_DIR ?? path.join(root, 'target'), host, 'release')
}

const golden = (/** @type {string} */ name, /** @type {string[]} */ args) => ({
  name,
  get command() {
    return path.join(built(), 'golden')
  },
  args,
  count: countChecks,
  // The whole workspace, as everywhere: another selection of crates would compile their dependencies anew.
  build: ['build', '--release', '--quiet', '--workspace', '--bin', 'golden'],
})

/** @type {Record<string, Suite[]>} */
const SUITES = {
  rust: [
    { name: 'rust', command: 'cargo', args: ['test', '--release', '--workspace', '--no-fail-fast'], count: countCargo },
  ],
  golden: [
    golden('golden cases', ['crates/testkit/golden']),
    golden('golden models', ['--models', 'crates/testkit/golden-models']),
  ],
  types: [
    { name: 'types', command: 'npx', args: ['--no-install', 'tsc', '-p', 'tsconfig.test.json'], count: countNothing },
  ],
  ts: [{ name: 'typescript', command: 'npx', args: ['--no-install', 'ava'], count: countAva }],
  // It says what it skips where there is no emulator.
  isa: [{ name: 'isa', command: 'node', args: ['scripts/isa.mjs'], count: countChecks, optional: true }],
}

/** The type tests either compile or do not. @returns {Counts} */
function countNothing() {
  return { passed: 1, failed: 0, skipped: 0 }
}

/** @returns {Counts} */
function countCargo(/** @type {string} */ output) {
  const counts = { passed: 0, failed: 0, skipped: 0 }
  for (const [, passed, failed, ignored] of output.matchAll(
    /^test result: .*? (\d+) passed; (\d+) failed; (\d+) ignored/gm,
  )) {
    counts.passed += Number(passed)
    counts.failed += Number(failed)
    counts.skipped += Number(ignored)
  }
  return counts
}

/** @returns {Counts} */
function countChecks(/** @type {string} */ output) {
  const last = [...output.matchAll(/^(\d+) passed, (\d+) failed, (\d+) skipped$/gm)].at(-1)
  return { passed: Number(last?.[1] ?? 0), failed: Number(last?.[2] ?? 0), skipped: Number(last?.[3] ?? 0) }
}

/** @returns {Counts} */
function countAva(/** @type {string} */ output) {
  const number = (/** @type {RegExp} */ pattern) => Number(pattern.exec(output)?.[1] ?? 0)
  return {
    passed: number(/^\s*(\d+) tests? passed/m),
    failed:
      number(/^\s*(\d+) tests? failed/m) +
      number(/^\s*(\d+) uncaught exceptions?/m) +
      number(/^\s*(\d+) unhandled rejections?/m),
    skipped: number(/^\s*(\d+) tests? skipped/m),
  }
}

/** One real model serves every suite; the alias says where it came from. */
async function realModel() {
  if (process.env.HEADWISE_MODEL) return process.env.HEADWISE_MODEL
  const { resolveModel } = await import(pathToFileURL(path.join(root, 'dist/models/index.js')).href)
  const model = await resolveModel('smollm2-135m', {
    onProgress: (/** @type {import('../ts/models/types.js').ProgressEvent} */ event) => {
      if (['resolve', 'fallback', 'retry', 'cached'].includes(event.phase)) {
        process.stderr.write(`headwise: ${event.phase} ${event.reference}${event.reason ? ` (${event.reason})` : ''}\n`)
      }
    },
  })
  return model.path
}

/** @returns {Promise<{ status: number, output: string }>} */
function run(/** @type {string} */ command, /** @type {string[]} */ args, /** @type {NodeJS.ProcessEnv} */ env) {
  return new Promise((resolve, reject) => {
    const windows = process.platform === 'win32'
    const child = spawn(command, args, { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'], shell: windows })
    let output = ''
    child.stdout.setEncoding('utf8').on('data', (text) => {
      output += text
      process.stdout.write(text)
    })
    child.stderr.setEncoding('utf8').on('data', (text) => {
      output += text
      process.stderr.write(text)
    })
    child.once('error', reject)
    child.once('close', (status) => resolve({ status: status ?? 1, output }))
  })
}

const chosen = process.argv.slice(2)
const unknown = chosen.find((name) => !Object.hasOwn(SUITES, name))
if (unknown !== undefined) {
  process.stderr.write(`no such suite: ${unknown} (there is: ${Object.keys(SUITES).join(', ')})\n`)
  process.exit(2)
}

setup()
const env = { ...process.env, HEADWISE_MODEL: await realModel() }
const total = { passed: 0, failed: 0, skipped: 0 }
const lines = []
for (const suite of (chosen.length > 0 ? chosen : Object.keys(SUITES)).flatMap((name) => SUITES[name] ?? [])) {
  process.stdout.write(`\n── ${suite.name} ──\n`)
  const start = performance.now()
  if (suite.build) await run('cargo', suite.build, env)
  const { status, output } = await run(suite.command, suite.args, env)
  const counts = suite.count(stripVTControlCharacters(output))
  // A suite that could not run, or ran nothing, has failed whatever it counted.
  const ran = counts.passed > 0 || (suite.optional && counts.skipped > 0)
  if (counts.failed === 0 && (status !== 0 || !ran)) counts.failed = 1
  total.passed += counts.passed
  total.failed += counts.failed
  total.skipped += counts.skipped
  const seconds = ((performance.now() - start) / 1000).toFixed(0)
  lines.push(
    `${suite.name}: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped (${seconds} s)`,
  )
}
process.stdout.write(`\n${lines.join('\n')}\n\n`)
process.stdout.write(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped\n`)
process.exitCode = total.failed > 0 ? 1 : 0
