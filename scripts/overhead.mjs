// What compressing costs after a prompt of 4,096 tokens, policy by policy, beside reading the prompt. Usage: npm run overhead

import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { root, setup } from './setup.mjs'

const TOKENS = 4096
const ROUNDS = 3
const BUDGET = { keep: 0.2 }

const median = (/** @type {number[]} */ numbers) =>
  /** @type {number} */ (numbers.sort((a, b) => a - b)[numbers.length >> 1])

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
  /** @type {Record<string, number[]>} */
  const reading = Object.fromEntries(Object.keys(gathers).map((name) => [name, []]))
  for (let round = 0; round < ROUNDS; round++)
    for (const [name, by] of Object.entries(gathers))
      reading[name]?.push(
        await prefill(typeof by === 'string' ? { policy: policy[/** @type {'h2o'} */ (by)]({ budget: BUDGET }) } : {}),
      )
  const plain = median(reading.nothing ?? [])
  console.log(`Reading ${TOKENS} tokens on ${model.info.threads} threads, gathering`)
  for (const [name, times] of Object.entries(reading)) {
    const ms = median(times)
    console.log(
      `  ${name.padEnd(20)} ${ms.toFixed(0).padStart(6)} ms ${((100 * ms) / plain - 100).toFixed(1).padStart(6)} % more`,
    )
  }

  const base = await model.createSession({ observeFor: specs })
  await base.prefill(tokens, { compress: false })
  console.log('Compressing to a fifth, in percent of reading')
  for (const [index, name] of names.entries()) {
    const times = []
    for (let round = 0; round < ROUNDS; round++) {
      const fork = await base.fork()
      times.push((await fork.compress(specs[index])).ms)
      await fork.dispose()
    }
    const ms = median(times)
    console.log(`  ${name.padEnd(20)} ${ms.toFixed(0).padStart(6)} ms ${((100 * ms) / plain).toFixed(2).padStart(6)} %`)
  }
  await base.dispose()
  await model.dispose()
}

await main()
