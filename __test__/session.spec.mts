import { setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import test from 'ava'
import { type CompressReport, type Model, policy, type Session, type Step } from '../ts/index.js'
import { fails, tiny, tokens } from './support.mjs'

let model: Model
test.before(async () => {
  model = await tiny()
})
test.after.always(() => model?.dispose())

async function ids(session: Session, options: Parameters<Session['generate']>[0] = {}): Promise<number[]> {
  const out: number[] = []
  for await (const step of session.generate({ ignoreEos: true, maxTokens: 12, ...options })) {
    out.push(step.token)
  }
  return out
}

const lengths = async (session: Session) => (await session.stats()).lengths.flat()
const sum = (numbers: number[]) => numbers.reduce((a, b) => a + b, 0)

test('a prefill reports tokens, bytes and the compression of its policy', async (t) => {
  await using session = await model.createSession({ policy: policy.adaSnapKV({ budget: { tokensPerHead: 60 } }) })
  const report = await session.prefill(tokens(300))
  const heads = model.info.layers * model.info.kvHeads
  t.is(report.tokens, 300)
  t.is(report.seen, 300)
  const compression = report.compression as CompressReport
  t.is(compression.before.slots, 300 * heads)
  t.is(compression.after.slots, 60 * heads)
  t.deepEqual(compression.after, report.memory)
  t.is(report.memory.logicalBytes, 60 * heads * model.info.slotBytes)
  const held = await lengths(session)
  t.is(sum(held), 60 * heads)
  t.true(new Set(held).size > 1, 'Ada-KV gives heads different lengths')
})

test('without a policy, or told not to, a prefill compresses nothing', async (t) => {
  await using full = await model.createSession()
  t.is((await full.prefill(tokens(50))).compression, null)
  await using asked = await model.createSession({ policy: policy.knorm({ budget: { keep: 0.5 } }) })
  t.is((await asked.prefill(tokens(50), { compress: false })).compression, null)
  await using later = await model.createSession({
    policy: policy.knorm({ budget: { keep: 0.5 }, schedule: 'onDemand' }),
  })
  t.is((await later.prefill(tokens(50))).compression, null)
  t.is((await later.compress()).after.slots, 25 * model.info.layers * model.info.kvHeads)
})

test('inspect shows ascending positions that match the lengths, window included', async (t) => {
  await using session = await model.createSession({ policy: policy.adaSnapKV({ budget: { keep: 0.3 }, window: 16 }) })
  await session.prefill(tokens(200))
  const kept = await session.inspect()
  t.deepEqual(kept.lengths(), (await session.stats()).lengths)
  for (let layer = 0; layer < kept.layers; layer++) {
    for (let head = 0; head < kept.kvHeads; head++) {
      const positions = [...kept.head(layer, head)]
      t.deepEqual(
        positions,
        [...new Set(positions)].sort((a, b) => a - b),
      )
      t.deepEqual(
        positions.slice(-16),
        Array.from({ length: 16 }, (_, i) => 184 + i),
      )
    }
  }
  t.throws(() => kept.head(kept.layers, 0), { instanceOf: RangeError })
})

test('decoding appends to every head and goes on at the original positions', async (t) => {
  await using session = await model.createSession({ policy: policy.snapKV({ budget: { keep: 0.2 } }) })
  await session.prefill(tokens(200))
  const before = await lengths(session)
  await ids(session, { maxTokens: 5 })
  const stats = await session.stats()
  t.is(stats.seen, 204, 'the last drawn token is not in the cache yet')
  t.deepEqual(
    stats.lengths.flat(),
    before.map((length) => length + 4),
  )
  const kept = await session.inspect()
  t.deepEqual([...kept.head(0, 0).slice(-4)], [200, 201, 202, 203])
})

test('the same tokens come out alone, in a crowd and after a fork', async (t) => {
  const prompts = [tokens(150, 1), tokens(333, 2), tokens(90, 3), tokens(700, 4)]
  const options = { policy: policy.adaSnapKV({ budget: { keep: 0.5 } }) }
  const alone: number[][] = []
  for (const prompt of prompts) {
    await using session = await model.createSession(options)
    alone.push(await ids(session, { prompt }))
  }
  t.is(new Set(alone.map(String)).size, prompts.length)
  const crowd = await Promise.all(
    prompts.map(async (prompt) => {
      await using session = await model.createSession(options)
      return await ids(session, { prompt })
    }),
  )
  t.deepEqual(crowd, alone)
  await using base = await model.createSession(options)
  await base.prefill(prompts[1] as number[])
  await using fork = await base.fork()
  t.deepEqual(await ids(fork), alone[1])
  t.deepEqual(await ids(base), alone[1], 'the fork left no trace in its origin')
})

test('the number of threads changes nothing', async (t) => {
  const runs = await Promise.all(
    [1, 2, 4].map(async (threads) => {
      await using other = await tiny({ threads })
      await using session = await other.createSession({ policy: policy.lookahead({ budget: { keep: 0.25 } }) })
      const out = await ids(session, { prompt: tokens(600) })
      const kept = await session.inspect()
      return { out, kept: [...Array(kept.layers).keys()].map((layer) => [...kept.head(layer, 1)]) }
    }),
  )
  t.deepEqual(runs[1], runs[0])
  t.deepEqual(runs[2], runs[0])
})

test('a fork shares memory until it is cut, and cutting it leaves the origin alone', async (t) => {
  await using base = await model.createSession()
  await base.prefill(tokens(512))
  await using fork = await base.fork()
  const shared = (await fork.stats()).memory
  t.is(shared.sharedBytes, shared.physicalBytes)
  const report = await fork.compress(policy.snapKV({ budget: { keep: 0.1 } }))
  t.true(report.after.physicalBytes < 0.25 * report.before.physicalBytes)
  t.is((await base.stats()).memory.slots, report.before.slots)
})

test('generation goes on where it stopped', async (t) => {
  await using whole = await model.createSession()
  const expected = await ids(whole, { prompt: tokens(100), maxTokens: 10 })
  await using parts = await model.createSession()
  const first = await ids(parts, { prompt: tokens(100), maxTokens: 4 })
  t.deepEqual([...first, ...(await ids(parts, { maxTokens: 6 }))], expected)
})

test('the last piece carries the reason, and stop tokens end a generation', async (t) => {
  await using base = await model.createSession()
  await base.prefill(tokens(64))
  const collect = async (options: object) => {
    await using session = await base.fork()
    const steps: Step[] = []
    for await (const step of session.generate({ ignoreEos: true, ...options })) steps.push(step)
    return steps
  }
  const steps = await collect({ maxTokens: 6 })
  t.deepEqual(
    steps.map((step) => step.finishReason),
    [null, null, null, null, null, 'length'],
  )
  const drawn = steps.map((step) => step.token as number)
  const stopAt = drawn.at(3) as number
  const stopped = await collect({ maxTokens: 6, stopTokens: [stopAt] })
  t.is(stopped.length, drawn.indexOf(stopAt) + 1)
  t.is(stopped.at(-1)?.finishReason, 'stop')
})

test('a long prompt does not stop the others', async (t) => {
  await using long = await model.createSession()
  await using other = await model.createSession()
  await using third = await model.createSession()
  const order: string[] = []
  await other.prefill(tokens(64))
  await Promise.all([
    long.prefill(tokens(4000)).then(() => order.push('long prompt')),
    ids(other, { maxTokens: 4 }).then(() => order.push('generation')),
    third.prefill(tokens(500)).then(() => order.push('short prompt')),
  ])
  t.is(order.at(-1), 'long prompt', order.join(', '))
})

test('a seed repeats, another one differs', async (t) => {
  await using base = await model.createSession()
  await base.prefill(tokens(64))
  const draw = async (seed: number) => {
    await using session = await base.fork()
    return await ids(session, { sampler: { temperature: 1.5, seed }, maxTokens: 24 })
  }
  t.deepEqual(await draw(5), await draw(5))
  t.notDeepEqual(await draw(5), await draw(6))
})

test('one call at a time; an abandoned generation frees the session', async (t) => {
  await using session = await model.createSession()
  await session.prefill(tokens(64))
  const running = session.generate({ ignoreEos: true, maxTokens: 3000 })
  await running.next()
  const busy = await fails(t, 'SessionBusy', () => session.prefill([1]))
  t.is(busy.details.running, 'generate')
  await fails(t, 'SessionBusy', async () => (await session.generate().next()).value)
  await fails(t, 'SessionBusy', () => session.compress(policy.knorm({ budget: { keep: 0.5 } })))
  await fails(t, 'SessionBusy', () => session.fork())
  await running.return(undefined)
  t.is((await session.prefill([1])).tokens, 1)
})

test('calls do not overtake each other, however long the first takes to start', async (t) => {
  await using session = await model.createSession()
  const first = session.prefill(tokens(2000))
  const second = session.prefill([1, 2, 3])
  const fork = session.fork()
  await fails(t, 'SessionBusy', () => second)
  await fails(t, 'SessionBusy', () => fork)
  t.is((await first).seen, 2000)
})

test('a generation that is left early has gone as far as its consumer, and goes on from there', async (t) => {
  await using base = await model.createSession()
  await base.prefill(tokens(64))
  await using whole = await base.fork()
  const expected = await ids(whole, { maxTokens: 12 })
  for (const leave of [
    async (session: Session, out: number[]) => {
      for await (const step of session.generate({ ignoreEos: true })) {
        out.push(step.token)
        // Time in which a generation that ran ahead would be far away.
        await sleep(5)
        if (out.length === 5) break
      }
    },
    async (session: Session, out: number[]) => {
      const abort = new AbortController()
      await fails(t, 'Aborted', async () => {
        for await (const step of session.generate({ ignoreEos: true, signal: abort.signal })) {
          out.push(step.token)
          await sleep(5)
          if (out.length === 5) abort.abort()
        }
      })
    },
  ]) {
    await using session = await base.fork()
    const out: number[] = []
    await leave(session, out)
    t.is(out.length, 5)
    t.true((await session.stats()).seen <= 64 + 5)
    t.deepEqual([...out, ...(await ids(session, { maxTokens: 7 }))], expected)
  }
})

test('a session outlives the object of its model', async (t) => {
  const open = async () => (await tiny()).createSession()
  await using session = await open()
  setFlagsFromString('--expose_gc')
  const collect: () => void = runInNewContext('gc')
  for (let i = 0; i < 3; i++) {
    collect()
    await sleep(20)
  }
  t.is((await session.prefill(tokens(10))).seen, 10)
})

test('aborting a prefill leaves the session as it was and frees its blocks', async (t) => {
  await using session = await model.createSession({ policy: policy.snapKV({ budget: { keep: 0.5 } }) })
  await session.prefill(tokens(100), { compress: false })
  const before = await session.stats()
  const abort = new AbortController()
  const prefill = session.prefill(tokens(3900), { signal: abort.signal })
  setTimeout(() => abort.abort(new Error('changed my mind')), 15)
  const error = await fails(t, 'Aborted', () => prefill)
  t.is((error.cause as Error).message, 'changed my mind')
  const after = await session.stats()
  t.deepEqual(after.lengths, before.lengths)
  t.deepEqual(after.memory, before.memory)
  await using twin = await model.createSession({ policy: policy.snapKV({ budget: { keep: 0.5 } }) })
  await twin.prefill(tokens(100), { compress: false })
  await session.compress()
  await twin.compress()
  const sampler = { repetitionPenalty: 3 }
  t.deepEqual(await ids(session, { sampler }), await ids(twin, { sampler }))
  t.is((await session.stats()).prefillTokens, 100)
  await fails(t, 'Aborted', () => session.prefill([1], { signal: AbortSignal.abort() }))
})

test('aborting a generation throws and the session lives on', async (t) => {
  await using session = await model.createSession()
  const abort = new AbortController()
  await fails(t, 'Aborted', async () => {
    for await (const step of session.generate({
      prompt: tokens(64),
      ignoreEos: true,
      maxTokens: 3000,
      signal: abort.signal,
    })) {
      t.is(step.finishReason, null)
      abort.abort()
    }
  })
  t.is((await ids(session, { maxTokens: 2 })).length, 2)
})

test('budgets that cannot be are refused with their numbers, and nothing is lost', async (t) => {
  await using session = await model.createSession()
  await session.prefill(tokens(200))
  const error = await fails(t, 'BudgetBelowProtected', () =>
    session.compress(policy.snapKV({ window: 32, budget: { tokensPerHead: 10 } })),
  )
  t.true((error.details.protected as number) > (error.details.budget as number))
  await fails(t, 'ObservationMissing', () => session.compress(policy.snapKV({ window: 100, budget: { keep: 0.9 } })))
  await fails(t, 'InvalidArgument', () => session.compress(policy.snapKV({ budget: { keep: 1.5 } })))
  await fails(t, 'InvalidPolicy', () => session.compress({ kind: 'snapKV', budget: { keep: 0.5 }, widnow: 3 } as never))
  await fails(t, 'InvalidPolicy', () => session.compress({ kind: 'magicKV' } as never))
  await fails(t, 'InvalidPolicy', () => model.createSession({ policy: policy.snapKV() }))
  t.is((await session.stats()).memory.slots, 200 * model.info.layers * model.info.kvHeads)
})

test('bad arguments are refused by name', async (t) => {
  await using session = await model.createSession()
  await fails(t, 'InvalidArgument', () => session.prefill([1, -2]))
  await fails(t, 'InvalidArgument', () => session.prefill([1, 0.5]))
  await fails(t, 'InvalidArgument', () => session.prefill([320]))
  await fails(t, 'InvalidArgument', () => ids(session, { prompt: [1], maxTokens: 0 }))
  await fails(t, 'InvalidArgument', () => ids(session, { prompt: [1], sampler: { topP: 2 } }))
  await fails(t, 'InvalidArgument', () => ids(session))
  await fails(t, 'InvalidArgument', () => model.createSession({ polizy: 1 } as never))
  await fails(t, 'InvalidArgument', () => model.createSession({ observe: 1e12 }))
  await fails(t, 'InvalidPolicy', () => model.createSession({ policy: { kind: 'magicKV' } as never }))
  await fails(t, 'InvalidArgument', () => session.prefill(5 as never))
  await fails(t, 'InvalidArgument', () => ids(session, { prompt: null as never }))
  await fails(t, 'ContextExceeded', () => session.prefill(tokens(model.info.contextLength + 1)))
  await fails(t, 'Tokenizer', () => session.prefill('text for a model without a tokenizer'))
  t.is((await session.stats()).seen, 0)
})

test('a disposed session and a disposed model say so', async (t) => {
  const other = await tiny()
  const session = await other.createSession()
  const second = await other.createSession()
  await session.dispose()
  await session.dispose()
  t.is((await fails(t, 'Disposed', () => session.prefill([1]))).details.what, 'session')
  await second.prefill(tokens(50))
  const running = ids(second, { maxTokens: 3000 })
  await other.dispose()
  await other.dispose()
  await fails(t, 'Disposed', () => running)
  t.is((await fails(t, 'Disposed', () => other.createSession())).details.what, 'model')
  await fails(t, 'Disposed', () => second.stats())
})

test('a generation whose compression fails leaves no trace', async (t) => {
  await using session = await model.createSession({ policy: policy.snapKV({ budget: { tokensPerHead: 8 } }) })
  await fails(t, 'BudgetBelowProtected', () => ids(session, { prompt: tokens(100) }))
  t.is((await session.stats()).seen, 0)
  t.is((await session.stats()).memory.physicalBytes, 0)
})

test('compressing a fork without room for its copies changes nothing', async (t) => {
  const { slotBytes, layers, kvHeads } = model.info
  const sequence = 320 * slotBytes * layers * kvHeads
  await using small = await tiny({ kvLimitBytes: sequence + 24_576 })
  await using base = await small.createSession()
  await base.prefill(tokens(300))
  await using fork = await base.fork()
  await fails(t, 'KvBudgetExceeded', () => fork.compress(policy.knorm({ budget: { keep: 0.5 } })))
  t.deepEqual(new Set(await lengths(fork)), new Set([300]))
  await base.dispose()
  t.is((await fork.compress(policy.knorm({ budget: { keep: 0.5 } }))).after.slots, 150 * layers * kvHeads)
})

test('a cache in int8 holds a byte a number and a scale a row, and says nearly the same', async (t) => {
  await using small = await tiny({ kvCodec: 'int8' })
  const { layers, kvHeads, headDim, slotBytes } = small.info
  t.is(slotBytes, 2 * (headDim + 4))
  const ada = policy.adaSnapKV({ budget: { tokensPerHead: 60 } })
  await using session = await small.createSession({ policy: ada })
  const report = await session.prefill(tokens(300))
  t.is(report.memory.logicalBytes, 60 * layers * kvHeads * slotBytes)
  t.true(report.memory.physicalBytes >= report.memory.logicalBytes)
  await using fork = await session.fork()
  const drawn = await ids(session, { maxTokens: 6 })
  t.deepEqual(await ids(fork, { maxTokens: 6 }), drawn)

  const surprise = async (of: Model) => {
    await using reader = await of.createSession()
    const { logProbs } = await reader.logLikelihood(tokens(300))
    return -sum(logProbs.slice(1) as number[]) / 299
  }
  const [bytes, halves] = [await surprise(small), await surprise(model)]
  t.true(Math.abs(bytes - halves) < 0.01 * halves, `${bytes} and ${halves}`)
})

test('a codec that there is none of is refused with its name', async (t) => {
  for (const kvCodec of ['int4', 'Int8', 'i8', ''] as unknown as 'int8'[]) {
    const error = await t.throwsAsync(() => tiny({ kvCodec }))
    t.regex(String(error?.message), /int8/)
    t.true(String(error?.message).includes(String(kvCodec)))
  }
})

test('a full KV pool refuses one session and leaves the others', async (t) => {
  const { slotBytes, layers, kvHeads } = model.info
  await using small = await tiny({ kvLimitBytes: 400 * slotBytes * layers * kvHeads })
  await using first = await small.createSession()
  await first.prefill(tokens(300))
  await using second = await small.createSession()
  const error = await fails(t, 'KvBudgetExceeded', () => second.prefill(tokens(300)))
  t.true((error.details.held as number) > 0)
  t.is((await second.stats()).memory.physicalBytes, 0)
  t.is((await ids(first, { maxTokens: 4 })).length, 4)
  await first.compress(policy.streamingLLM({ budget: { keep: 0.2 } }))
  t.is((await second.prefill(tokens(200))).tokens, 200)
})

test('what a policy needs is gathered for forks that were told of it, and missed by others', async (t) => {
  const h2o = policy.h2o({ budget: { keep: 0.2 } })
  await using own = await model.createSession({ policy: h2o })
  await using told = await model.createSession({ observeFor: [policy.knorm({ budget: { keep: 0.5 } }), h2o] })
  await using untold = await model.createSession()
  for (const session of [own, told, untold]) await session.prefill(tokens(200), { compress: false })
  await using fork = await told.fork()
  await own.compress()
  await fork.compress(h2o)
  const [expected, kept] = [await own.inspect(), await fork.inspect()]
  t.deepEqual(kept.head(2, 1), expected.head(2, 1))
  await fails(t, 'ObservationMissing', () => untold.compress(h2o))
  await fails(t, 'InvalidPolicy', () => model.createSession({ observeFor: [{ kind: 'nope' } as never] }))
})

test('random keeps what its seed says, in every head something else', async (t) => {
  const kept = async (seed: number) => {
    await using session = await model.createSession({ policy: policy.random({ seed, budget: { keep: 0.25 } }) })
    await session.prefill(tokens(200))
    const positions = await session.inspect()
    return [0, 1].map((head) => [...positions.head(1, head)])
  }
  const [first, again, other] = [await kept(1), await kept(1), await kept(2)]
  t.deepEqual(first, again)
  t.is(first[0]?.length, 50)
  t.notDeepEqual(first, other)
  t.notDeepEqual(first[0], first[1])
})
