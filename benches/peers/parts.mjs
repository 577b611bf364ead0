import { Failure, LEAST_COMPRESSED } from './options.mjs'
import { prose } from './prompt.mjs'
import { startTorch } from './selection/torch.mjs'

/** Prompts beyond this many tokens take minutes in some engines: fewer rounds, no warm-up of their own. */
export const LONG = 4096
/** What adaSnapKV keeps, by the name that the figures carry. */
const KEEPS = { ada10: 0.1, ada20: 0.2 }
/** The process of our own that keeps its caches in int8. */
export const INT8 = 'headwise_int8'
/** Sessions of the batch. */
const BATCH = 8

/** The longest prompt is also measured compressed, if there is a shorter one to compare it with and a tenth of it is enough. */
export function adaSize(sizes) {
  const [shortest, longest] = [sizes[0], sizes.at(-1)]
  return longest > shortest && longest >= LEAST_COMPRESSED ? longest : undefined
}

/** Each engine in turn; every other round backwards, so that neither always runs on the warmer machine. */
const inTurn = (engines, round) => (round % 2 ? engines.toReversed() : engines)

/** Rounds -1 (which only warms up) to `count` - 1, with a function that keeps a figure of all but the warm-up. */
async function rounds(count, raw, body) {
  for (let round = -1; round < count; round++) {
    const keep = (name, figure, value) => {
      if (round < 0) return
      raw[name] ??= {}
      raw[name][figure] ??= []
      raw[name][figure].push(Number(value.toFixed(3)))
    }
    await body(round, keep)
  }
}

async function promptOf(engine, size, seed) {
  const tokens = (await engine.call('tokenize', prose(size, seed))).slice(0, size)
  if (tokens.length < size) throw new Failure(`${engine.name} makes ${tokens.length} tokens of ${size} words`)
  return tokens
}

/** Decodes behind the prompts: tokens a second of all of them together, from when all have begun until all have ended. */
async function decode(engine, steps, options = {}) {
  const { stamps, compressMs } = await engine.call('decode', steps, options)
  const short = stamps.find((times) => times.length <= steps)
  if (short) throw new Failure(`${engine.name} stopped after ${short.length} of ${steps + 1} tokens`)
  const from = Math.max(...stamps.map((times) => times[0]))
  const until = Math.max(...stamps.map((times) => times.at(-1)))
  const tokens = stamps.flat().filter((time) => time > from).length
  return { tokensPerSecond: (tokens / (until - from)) * 1000, compressMs }
}

/** One sequence: prefill, decode with the whole cache and, in an engine that compresses, with a tenth and a fifth of it. */
export async function single(engines, options, raw, say) {
  const { sizes, repeats, longRepeats, steps } = options
  const prompts = new Map()
  for (const size of sizes) prompts.set(size, await promptOf(engines[0], size))
  for (const engine of engines) await engine.call('reserve', 1, sizes.at(-1) + steps + 2)

  const last = Math.max(...sizes.map((size) => (size > LONG ? longRepeats : repeats)))
  await rounds(last, raw, async (round, keep) => {
    const now = sizes.filter((size) => (size > LONG ? round >= 0 && round < longRepeats : round < repeats))
    if (round >= 0) say(`single sequences, round ${round + 1} of ${last}: ${now.join(', ')} tokens`)
    for (const size of now) {
      for (const engine of inTurn(engines, round)) {
        const [ms] = await engine.call('prefill', [prompts.get(size)])
        keep(engine.name, `prefill_${size}`, (size / ms) * 1000)
        const full = await decode(engine, steps)
        keep(engine.name, `decode_${size}`, 1000 / full.tokensPerSecond)
        const compresses = engine.name === 'headwise' || engine.name === INT8
        for (const [name, share] of compresses && size === adaSize(sizes) ? Object.entries(KEEPS) : []) {
          const { tokensPerSecond, compressMs } = await decode(engine, steps, { keep: share })
          keep(engine.name, `decode_${size}_${name}`, 1000 / tokensPerSecond)
          keep(engine.name, `compress_${size}_${name}`, compressMs)
        }
      }
    }
  })
}

/** Eight sequences, each with a prompt of its own, decoding together; in our engine also alone and with a tenth of the cache. */
export async function batch(engines, options, raw, say) {
  const { batchTokens, repeats, steps } = options
  const prompts = []
  for (let seed = 1; seed <= BATCH; seed++) prompts.push(await promptOf(engines[0], batchTokens, seed))
  for (const engine of engines) {
    say(`batch: ${engine.name} reads ${BATCH} prompts of ${batchTokens} tokens`)
    await engine.call('reserve', BATCH, batchTokens + steps + 2)
    await engine.call('prefill', prompts)
  }
  await rounds(repeats, raw, async (round, keep) => {
    if (round >= 0) say(`batch, round ${round + 1} of ${repeats}`)
    for (const engine of inTurn(engines, round)) {
      const figure = async (name, how) => keep(engine.name, name, (await decode(engine, steps, how)).tokensPerSecond)
      await figure(`batch${BATCH}`)
      if (engine.name !== 'headwise') continue
      await figure(`batch${BATCH}_ada10`, { keep: KEEPS.ada10 })
      await figure('batch1', { sessions: 1 })
    }
  })
}

/** Scoring, selection and compaction of adaSnapKV at a tenth, behind the longest prompt: ours and torch's, all in float32. */
export async function selection(headwise, options, raw, say) {
  const { sizes, repeats, threads, python } = options
  const slots = sizes.at(-1)
  const { layers, kvHeads, queryHeads, headDim } = headwise.shape
  const torch = await startTorch(python, { layers, kvHeads, queryHeads, headDim, slots, threads, keep: KEEPS.ada10 })
  say(`selection: headwise reads ${slots} tokens; beside it ${torch.version}`)
  await headwise.call('prefill', [await promptOf(headwise, slots)])
  await rounds(repeats, raw, async (round, keep) => {
    if (round >= 0) say(`selection, round ${round + 1} of ${repeats}`)
    const turns = [
      ['headwise', () => headwise.call('compress', KEEPS.ada10)],
      ...torch.paths.map((path) => [path, () => torch.call(path)]),
    ]
    for (const [name, turn] of inTurn(turns, round)) keep(name, `selection_${slots}`, await turn())
  })
  torch.close()
  return torch.version
}
