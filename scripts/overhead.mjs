// What compressing costs after a prompt of 4,096 tokens, policy by policy, beside reading the prompt. Usage: npm run overhead

import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { root, setup } from './setup.mjs'

const TOKENS = 4096
const ROUNDS = 5
const BUDGET = { keep: 0.2 }

const median = (/** @type {number[]} */ numbers) =>
  /** @type {number} */ (numbers.sort((a, b) => a - b)[numbers.length >> 1])

/** A line of a table. @param {string} name @param {{ ms: number, percent: number }[]} rounds @param {number} add @param {number} digits */
function line(name, rounds, add, digits) {
  const percent = rounds.map((round) => round.percent + add)
  const [middle, least, most] = [median(percent), Math.min(...percent), Math.max(...percent)].map((x) =>
    x.toFixed(digits).padStart(7),
  )
  const ms = median(rounds.map((round) => round.ms)).toFixed(0)
  return `  ${name.padEnd(20)} ${ms.padStart(6)} ms ${middle} % (${least} to ${most})`
}

/** The project's own pages, over and over. */
function text() {
  const docs = readdirSync(path.join(root, 'docs')).filter((name) => name.endsWith('.md') && name !== 'results.md')
  const pages = ['README.md', 'ARCHITECTURE.md', 'CONTRIBUTING.md', ...docs.map((name) => `docs/${name}`)]
  return pages.map((page) => readFileSync(path.join(root, page), 'utf8')).join('\n')
}

async function main() {
  setup()
  const { Model, policies, policy } = await import('../dist/index.js').then((module) => module.default ?? module)
  const model = await Model.load(process.env.HEADWISE_MODEL ?? 'smollm2-135m')
  const tokens = model.tokenize(text()).slice(0, TOKENS)
  if (tokens.length < TOKENS) throw new Error(`only ${tokens.length} tokens of text`)
  const names = policies.filter((name) => name !== 'full' && !/^ada[A-Z]/.test(name))
  const specs = names.map((name) => policy[name]({ budget: BUDGET }))

  /** Milliseconds to read the prompt while a policy gathers what it needs. @param {object} options */
  const prefill = async (options) => {
    const session = await model.createSession(options)
    const { ms } = await session.prefill(tokens, { compress: false })
    await session.dispose()
    return ms
  }
  const gathers = {
    nothing: {},
    sums: 'h2o',
    'query moments': 'expectedAttention',
    'attention in chunks': 'nonCausal',
    'second reading': 'echo',
  }
  const base = await model.createSession({ observeFor: specs })
  await base.prefill(tokens, { compress: false })
  /** Milliseconds to cut what was read. @param {import('../dist/index.js').PolicySpec | undefined} spec */
  const compress = async (spec) => {
    const fork = await base.fork()
    const { ms } = await fork.compress(spec)
    await fork.dispose()
    return ms
  }
  /** Of each round, and in percent of the reading beside it: a machine with neighbours is not the same for long. */
  const [reading, cutting] = [new Map(), new Map()]
  for (let round = 0; round < ROUNDS; round++) {
    let plain = 0
    for (const [name, by] of Object.entries(gathers)) {
      const spec = typeof by === 'string' ? { policy: policy[/** @type {'h2o'} */ (by)]({ budget: BUDGET }) } : {}
      const ms = await prefill(spec)
      plain ||= ms
      reading.set(name, [...(reading.get(name) ?? []), { ms, percent: (100 * ms) / plain }])
    }
    for (const [index, name] of names.entries()) {
      const before = cutting.get(name) ?? []
      // What reads the prompt again need not do so five times.
      if (before[0]?.percent > 50) continue
      const ms = await compress(specs[index])
      cutting.set(name, [...before, { ms, percent: (100 * ms) / plain }])
    }
  }
  console.log(`Reading ${TOKENS} tokens on ${model.info.threads} threads, gathering; medians of ${ROUNDS} rounds`)
  for (const [name, rounds] of reading) console.log(line(name, rounds, -100, 1))
  console.log('Compressing to a fifth, in percent of reading with nothing gathered')
  for (const [name, rounds] of cutting) console.log(line(name, rounds, 0, 2))
  await base.dispose()
  await model.dispose()
}

await main()
