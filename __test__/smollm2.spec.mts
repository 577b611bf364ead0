import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { type Model, policy } from '../ts/index.js'
import { realModel } from './support.mjs'

let model: Model
test.before(async () => {
  model = await realModel()
})
test.after.always(() => model?.dispose())

const DOCUMENT = `${'The garden was quiet that morning, and the kettle took its time. '.repeat(40)}
The secret phrase for Oslo is: lantern copper falcon.
${'A train passed behind the houses, late as ever, and nobody looked up. '.repeat(40)}`

test('text in, text out: the pieces are the whole', async (t) => {
  await using session = await model.createSession()
  await session.prefill('The capital of France is')
  await using twin = await session.fork()
  let pieces = ''
  for await (const step of session.generate({ maxTokens: 12 })) pieces += step.text
  t.true(pieces.startsWith(' Paris'), pieces)
  t.is(await twin.complete({ maxTokens: 12 }), pieces)
})

test('a stop text ends the answer before itself', async (t) => {
  await using session = await model.createSession()
  const text = await session.complete({ prompt: 'One, two, three, four,', stop: [' six'], maxTokens: 20 })
  t.true(text.startsWith(' five'), text)
  t.false(text.includes('six'))
})

test('a needle survives a cut to a tenth, and the memory is given back', async (t) => {
  await using session = await model.createSession()
  await session.prefill(DOCUMENT)
  await session.prefill('\n\nThe secret phrase for Oslo is:')
  const { before, after } = await session.compress(policy.lookahead({ budget: { keep: 0.1 } }))
  t.true(after.physicalBytes < 0.2 * before.physicalBytes)
  t.regex(await session.complete({ maxTokens: 10, stop: ['\n'] }), /lantern copper falcon/)
})

test('a document is cut before its question is known, with and without a second reading', async (t) => {
  for (const cut of [policy.echo({ budget: { keep: 0.3 } }), policy.kvzip({ budget: { keep: 0.3 } })]) {
    await using session = await model.createSession({ policy: cut })
    const { tokens, compression } = await session.prefill(DOCUMENT)
    t.true(compression && compression.after.slots < 0.31 * compression.before.slots)
    t.is((compression?.probeTokens ?? 0) > tokens, cut.kind === 'kvzip')
    const prompt = '\n\nThe secret phrase for Oslo is:'
    t.regex(await session.complete({ prompt, maxTokens: 10, stop: ['\n'] }), /lantern copper falcon/, cut.kind)
  }
})

test('an instruction, classes of tokens and a bound decide what stays', async (t) => {
  await using session = await model.createSession()
  await session.prefill(DOCUMENT)
  const text = '\n\nWhich secret phrases does the text name?'
  const budget = { keep: 0.3 }
  for (const spec of [policy.citrus({ text, budget }), policy.fastGen({ budget }), policy.certified({ budget })]) {
    await using fork = await session.fork()
    const { before, after, probeTokens } = await fork.compress(spec)
    t.true(after.slots > 0 && after.slots <= 0.3 * before.slots, `${spec.kind}: ${after.slots} of ${before.slots}`)
    t.is(probeTokens, spec.kind === 'citrus' ? model.tokenize(text).length : 0)
  }
})

test('others go on while a cache is probed, and a probe can be given up', async (t) => {
  await using session = await model.createSession()
  await using other = await model.createSession()
  await session.prefill(DOCUMENT)
  await other.prefill('The capital of France is')
  const kvzip = policy.kvzip({ budget: { keep: 0.2 } })
  let done = false
  const compression = session.compress(kvzip).then(() => {
    done = true
  })
  const busy = await t.throwsAsync(session.complete({ maxTokens: 1 }), { code: 'SessionBusy' })
  t.regex(busy?.message ?? '', /compress/)
  await other.complete({ maxTokens: 4 })
  t.false(done)
  await compression

  await using whole = await model.createSession()
  await whole.prefill(DOCUMENT)
  const before = (await whole.stats()).memory
  const abort = new AbortController()
  const given = whole.compress(kvzip, { signal: abort.signal })
  setTimeout(() => abort.abort(), 20)
  await t.throwsAsync(given, { code: 'Aborted' })
  const after = (await whole.stats()).memory
  t.deepEqual([after.slots, after.sharedBytes], [before.slots, 0])
})

test('a chat goes through the template of the model', async (t) => {
  const prompt = model.renderChat([{ role: 'user', content: 'Say hello.' }])
  t.true(prompt.endsWith('<|im_start|>assistant\n'), prompt)
  const special = model.tokenize(prompt, { parseSpecial: true })
  const plain = model.tokenize(prompt)
  t.true(special.length < plain.length)
  t.is(model.detokenize(plain), prompt)
  await using session = await model.createSession()
  const text = await session.complete({ prompt, parseSpecial: true, maxTokens: 60 })
  t.false(text.includes('<|im_end|>'))
  t.true(text.length > 0)
})

test.serial('the event loop keeps its rhythm while a prompt is read', async (t) => {
  await using session = await model.createSession()
  let longest = 0
  let last = performance.now()
  const timer = setInterval(() => {
    const now = performance.now()
    longest = Math.max(longest, now - last)
    last = now
  }, 5)
  await sleep(50)
  longest = 0
  await session.prefill(DOCUMENT.repeat(2))
  clearInterval(timer)
  t.true(longest < 50, `longest gap between ticks of a 5 ms timer: ${longest.toFixed(1)} ms`)
})

test('the likelihood of a text is that of the token which a generation would draw, whole or in parts', async (t) => {
  await using session = await model.createSession()
  await session.prefill('The capital of France is')
  await using twin = await session.fork()
  await using other = await session.fork()
  await using fresh = await model.createSession()
  const text = ' Paris, and the capital of Italy is Rome. '.repeat(12)
  const { tokens, logProbs, seen } = await session.logLikelihood(text)
  t.deepEqual(tokens, [...model.tokenize(text)])
  t.is(seen, (await session.stats()).seen)
  // Greedy: nothing is more likely than " Paris", so its logarithm is above that of an even chance among two.
  t.true((logProbs[0] as number) > Math.log(0.5), String(logProbs[0]))
  t.true(logProbs.every((value) => value !== null && value <= 0))
  // A chunk of 64 tokens and one of its own length give the same numbers, so parts are as good as the whole.
  const cut = 64
  const first = await twin.logLikelihood(tokens.slice(0, cut))
  const second = await twin.logLikelihood(tokens.slice(cut))
  t.deepEqual([...first.logProbs, ...second.logProbs], logProbs)
  // The session goes on as after a prefill.
  await other.prefill(text)
  t.is(await session.complete({ maxTokens: 8 }), await other.complete({ maxTokens: 8 }))
  t.is((await fresh.logLikelihood('Once upon')).logProbs[0], null)
})

test('the likelihood of a text is that of a float32 reference', async (t) => {
  const oracle = JSON.parse(readFileSync('crates/testkit/oracles/smollm2-nll.json', 'utf8'))
  await using session = await model.createSession()
  const [first, ...rest] = (await session.logLikelihood(oracle.tokens)).logProbs
  t.is(first, null)
  const loss = -rest.reduce<number>((sum, value) => sum + (value as number), 0) / rest.length
  t.true(Math.abs(loss - oracle.mean_nll) < 0.002, `${loss}, reference ${oracle.mean_nll}`)
})
