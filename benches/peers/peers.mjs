// headwise and llama.cpp in turn on the same file and the same token ids; see README.md.
import { fork } from 'node:child_process'
import { existsSync } from 'node:fs'
import { availableParallelism, cpus, loadavg } from 'node:os'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { prose } from './prompt.mjs'

const { values: flags } = parseArgs({
  options: {
    model: { type: 'string', default: 'smollm2-135m' },
    sizes: { type: 'string', default: '128,2048' },
    engines: { type: 'string', default: 'headwise,llama' },
    repeats: { type: 'string', default: '5' },
    steps: { type: 'string', default: '48' },
    threads: { type: 'string', default: '2' },
    json: { type: 'boolean', default: false },
  },
})

function count(name) {
  const value = Number(flags[name])
  if (!Number.isInteger(value) || value < 1) fail(`--${name} ${flags[name]}: expected a whole number from 1`)
  return value
}

function fail(message) {
  console.error(message)
  process.exit(1)
}

function median(values) {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/** Starts an engine's process; calls go to it one at a time. */
async function start(name, options) {
  const child = fork(fileURLToPath(new URL('worker.mjs', import.meta.url)), [name, JSON.stringify(options)])
  const call = (method, ...args) =>
    new Promise((resolve) => {
      const ended = (code, signal) => fail(`${name} ended in ${method} (${signal ?? `code ${code}`})`)
      child.once('exit', ended)
      child.once('message', ({ result, error }) => {
        child.off('exit', ended)
        if (error) fail(`${name}: ${error}`)
        resolve(result)
      })
      child.send({ method, args })
    })
  return { name, ...(await call('open')), call, exit: () => child.disconnect() }
}

/** One prompt of exactly `size` tokens through one engine: tokens a second of prefill, milliseconds a token of decode. */
async function measure(engine, tokens, steps) {
  const { prefillMs, stamps } = await engine.call('measure', tokens, steps)
  if (stamps.length <= steps) fail(`${engine.name} stopped after ${stamps.length} of ${steps + 1} tokens`)
  return {
    prefillTokensPerSecond: (tokens.length / prefillMs) * 1000,
    decodeMsPerToken: (stamps[steps] - stamps[0]) / steps,
  }
}

const names = flags.engines.split(',')
const sizes = flags.sizes.split(',').map(Number)
const [repeats, steps, threads] = [count('repeats'), count('steps'), count('threads')]
if (!sizes.every((size) => Number.isInteger(size) && size > 0)) fail(`--sizes ${flags.sizes}: expected token counts`)
for (const name of names) {
  if (!existsSync(new URL(`engines/${name}.mjs`, import.meta.url))) fail(`--engines ${name}: there is no such engine`)
}
if (names.includes('headwise') && !existsSync(new URL('../../dist/index.js', import.meta.url))) {
  fail('headwise is not built: run `npm run build` in the root folder first, or measure --engines llama alone')
}

// llama.cpp's threads spin at barriers: on shared cores its decode takes many times as long, and our ratio flatters us.
const load = Number(loadavg()[0].toFixed(2))
if (load > 0.5) console.error(`something else is running (load ${load}): these figures are not fair to either engine`)

// The first engine finds the model (headwise resolves references); the others open the file that it found.
const contextSize = Math.ceil((Math.max(...sizes) + steps + 2) / 256) * 256
const engines = []
for (const name of names) {
  engines.push(await start(name, { model: engines[0]?.path ?? flags.model, threads, contextSize }))
}

const keys = ['prefill', 'decode'].flatMap((phase) => sizes.map((size) => `${phase}_${size}`))
const raw = Object.fromEntries(names.map((name) => [name, Object.fromEntries(keys.map((key) => [key, []]))]))
for (const size of sizes) {
  const tokens = (await engines[0].call('tokenize', prose(size))).slice(0, size)
  for (let repeat = -1; repeat < repeats; repeat++) {
    // Every other round backwards, so that neither engine always runs on the warmer machine; round -1 warms up.
    for (const engine of repeat % 2 ? engines.toReversed() : engines) {
      const { prefillTokensPerSecond, decodeMsPerToken } = await measure(engine, tokens, steps)
      if (repeat < 0) continue
      raw[engine.name][`prefill_${size}`].push(Number(prefillTokensPerSecond.toFixed(2)))
      raw[engine.name][`decode_${size}`].push(Number(decodeMsPerToken.toFixed(3)))
    }
  }
}
for (const engine of engines) {
  await engine.call('close')
  engine.exit()
}

const both = names.includes('headwise') && names.includes('llama')
const ratios = {}
for (const key of both ? keys : []) {
  const [ours, theirs] = [median(raw.headwise[key]), median(raw.llama[key])]
  ratios[key] = Number((key.startsWith('prefill') ? ours / theirs : theirs / ours).toFixed(3))
}

if (flags.json) {
  const machine = {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    threads,
    load,
    platform: `${process.platform}-${process.arch}`,
    node: process.version,
    engines: Object.fromEntries(engines.map(({ name, version }) => [name, version])),
  }
  console.log(JSON.stringify({ machine, ratios, raw }))
} else {
  const unit = (key) => (key.startsWith('prefill') ? 'tok/s' : 'ms/tok')
  const row = (cells) => console.log(cells.map((cell, i) => (i ? String(cell).padStart(12) : cell.padEnd(22))).join(''))
  row([`medians of ${repeats}`, ...names, ...(both ? ['ratio'] : [])])
  for (const key of keys) {
    const cells = names.map((name) => median(raw[name][key]).toFixed(1))
    row([`${key}, ${unit(key)}`, ...cells, ...(both ? [ratios[key].toFixed(2)] : [])])
  }
  if (both) console.log('ratio: above 1, headwise is faster')
}
