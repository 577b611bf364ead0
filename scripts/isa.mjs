// Runs what users run on CPUs that this machine need not have: the kernels' tests, the golden models, and the addon in
// Node. QEMU plays the CPUs, one process at a time (qemu-user), and an instruction that such a CPU lacks kills the process.
// Usage: node scripts/isa.mjs   (npm test runs it as the suite `isa`; what is not installed is skipped aloud)

import { spawn, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { root, setup } from './setup.mjs'

/**
 * @typedef {{ name: string, emulator: string[], level: string, lacks: string[] }} Cpu
 * @typedef {{ name: string, package: string, test: boolean, path: string }} Binary
 * @typedef {{ status: number | null, signal: NodeJS.Signals | null, output: string }} Ended
 */

/** A plain x86-64-v2 CPU (SSE4.2 and nothing newer), and one with AVX2, FMA and F16C. @type {Cpu[]} */
const X86 = [
  { name: 'Nehalem', emulator: ['qemu-x86_64', '-cpu', 'Nehalem'], level: 'Baseline', lacks: ['Avx2', 'Avx512'] },
  { name: 'Haswell', emulator: ['qemu-x86_64', '-cpu', 'Haswell'], level: 'Avx2', lacks: ['Avx512'] },
]

/** The first 64-bit ARM core: NEON, and no newer extension. @type {Cpu} */
const ARM = {
  name: 'Cortex-A57',
  emulator: ['qemu-aarch64', '-L', '/usr/aarch64-linux-gnu', '-cpu', 'cortex-a57'],
  level: 'Baseline',
  lacks: [],
}
const ARM_TARGET = 'aarch64-unknown-linux-gnu'
const ARM_LINKER = 'aarch64-linux-gnu-gcc'

const total = { passed: 0, failed: 0, skipped: 0 }

const has = (/** @type {string} */ command) => spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0

function skip(/** @type {string} */ what, /** @type {string} */ why) {
  process.stdout.write(`SKIPPED: ${what}: ${why}\n`)
  total.skipped++
}

/** Runs a command without a core dump. @returns {Promise<Ended>} */
function run(/** @type {string[]} */ command, /** @type {NodeJS.ProcessEnv} */ env = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn('sh', ['-c', 'ulimit -c 0; exec "$@"', 'sh', ...command], {
      cwd: root,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (output += text))
    child.once('error', reject)
    child.once('close', (status, signal) => resolve({ status, signal, output }))
  })
}

const succeeded = (/** @type {Ended} */ { status }) => status === 0
const died = (/** @type {Ended} */ { signal }) => signal === 'SIGILL'

/** One check: a command on a CPU and how it must end. Its output is shown when it ends differently. */
async function check(
  /** @type {Cpu} */ cpu,
  /** @type {string} */ what,
  /** @type {string[]} */ command,
  /** @type {NodeJS.ProcessEnv} */ env = {},
  /** @type {(ended: Ended) => boolean} */ good = succeeded,
) {
  const start = performance.now()
  const ended = await run([...cpu.emulator, ...command], env)
  const counts = /^(?:test result: ok\. )?(\d+ passed)/m.exec(ended.output)?.[1]
  const seconds = `${((performance.now() - start) / 1000).toFixed(1)} s`
  const fine = good(ended)
  total[fine ? 'passed' : 'failed']++
  process.stdout.write(`${fine ? 'ok' : 'FAILED'}  ${cpu.name}: ${what} (${counts ? `${counts}, ` : ''}${seconds})\n`)
  if (fine) return
  // Which features of the real CPU the emulator leaves out, it says once a thread.
  const output = ended.output.replace(/^qemu-\S+: warning: .*\n/gm, '')
  process.stdout.write(`${output}\nended with ${ended.signal ?? ended.status}\n`)
}

/** Builds and returns the test programs and what they need. @returns {Binary[]} */
function build(/** @type {string[]} */ args, /** @type {NodeJS.ProcessEnv} */ env = {}) {
  const cargo = spawnSync(
    'cargo',
    ['test', '--release', '--no-run', '--message-format=json-render-diagnostics', '--quiet', ...args],
    {
      cwd: root,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'inherit'],
      encoding: 'utf8',
      maxBuffer: 1 << 28,
    },
  )
  if (cargo.status !== 0) throw new Error(`cargo test --no-run ${args.join(' ')} failed`)
  return cargo.stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line))
    .filter(({ executable }) => executable)
    .map(({ executable, manifest_path, profile, target }) => ({
      name: target.name,
      package: path.basename(path.dirname(manifest_path)),
      test: profile.test,
      path: executable,
    }))
}

/** The level that is found, the death of a program that uses what is missing, and what the kernels compute. */
async function checkKernels(/** @type {Cpu} */ cpu, /** @type {Binary[]} */ binaries) {
  const program = (/** @type {string} */ name) => {
    const found = binaries.find((binary) => binary.test && binary.package === 'kernels' && binary.name === name)
    if (!found) throw new Error(`the kernels have no test program ${name}`)
    return found.path
  }
  const levels = program('levels')
  await check(cpu, `the level found is ${cpu.level}`, [levels], { HEADWISE_EXPECT_LEVEL: cpu.level })
  for (const level of cpu.lacks) {
    await check(cpu, `${level} code is an illegal instruction`, [levels], { HEADWISE_TRY_LEVEL: level }, died)
  }
  for (const name of ['headwise_kernels', 'conformance']) await check(cpu, `tests of ${name}`, [program(name)])
}

async function x86() {
  if (process.platform !== 'linux' || process.arch !== 'x64') return skip('older x86 CPUs', 'only on x86-64 Linux')
  if (!has('qemu-x86_64')) return skip('older x86 CPUs', 'there is no qemu-x86_64 (Debian: apt-get install qemu-user)')
  // The selection and the options of the other suites, so that nothing is compiled twice.
  const binaries = build(['--workspace'])
  const golden = binaries.find(({ name, test }) => name === 'golden' && !test)
  if (!golden) throw new Error('there is no program `golden`')
  for (const cpu of X86) {
    await checkKernels(cpu, binaries)
    await check(cpu, 'golden models', [golden.path, '--models', 'crates/testkit/golden-models'])
    await check(cpu, 'the addon in Node', [process.execPath, path.join(root, 'scripts', 'isa-node.mjs')])
  }
}

async function arm() {
  const rust = spawnSync('rustc', ['--print', 'target-libdir', '--target', ARM_TARGET], { encoding: 'utf8', cwd: root })
  if (process.platform !== 'linux') return skip('an ARM CPU', 'only on Linux')
  if (!has('qemu-aarch64')) return skip('an ARM CPU', 'there is no qemu-aarch64 (Debian: apt-get install qemu-user)')
  if (!has(ARM_LINKER))
    return skip('an ARM CPU', `there is no ${ARM_LINKER} (Debian: apt-get install gcc-aarch64-linux-gnu)`)
  if (!existsSync(rust.stdout?.trim()))
    return skip('an ARM CPU', `Rust lacks the target (rustup target add ${ARM_TARGET})`)
  const env = { CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER: ARM_LINKER }
  await checkKernels(ARM, build(['-p', 'headwise-kernels', '--target', ARM_TARGET], env))
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  setup()
  for (const part of [x86, arm]) {
    // What cannot be built has failed, and the other part runs all the same.
    await part().catch((error) => {
      process.stdout.write(`FAILED  ${error.message}\n`)
      total.failed++
    })
  }
  process.stdout.write(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped\n`)
  process.exitCode = total.failed > 0 ? 1 : 0
}
