import { HeadwiseError } from '../errors.js'
import type { PolicySpec } from '../generated/policy.js'
import type { Session } from '../session.js'
import type { Item } from './item.js'
import { score } from './metrics.js'
import type { Prompt } from './prompt.js'
import type { AnswerRecord, SampleRecord } from './records.js'

/** A session that has read something and is forked by many. */
export class Reading {
  readonly session: Session
  /** Milliseconds that reading took. */
  ms: number
  #last: Promise<unknown> = Promise.resolve()

  constructor(session: Session, ms = 0) {
    this.session = session
    this.ms = ms
  }

  /** Reads more tokens; gives the error's code where they do not fit the model's context. */
  async extend(tokens: Uint32Array): Promise<string | undefined> {
    if (tokens.length === 0) return undefined
    const report = await this.session.prefill(tokens, { compress: false }).catch(refusal)
    if (typeof report === 'string') return report
    this.ms += report.ms
    return undefined
  }

  /** A fork; a session runs one call at a time, so those who want one at once get theirs one after the other. */
  fork(): Promise<Session> {
    const next = this.#last.then(() => this.session.fork())
    this.#last = next.catch(() => {})
    return next
  }
}

/** What stands in a journal besides the key. */
export type Outcome = Omit<AnswerRecord, 'key'>

/** Nothing came of it. */
export function refused(error: string): Outcome {
  const nothing = { slots: 0, logicalBytes: 0, physicalBytes: 0, prefillMs: 0, compressMs: 0, decodeMs: 0 }
  return { turns: [], ...nothing, decodeTokens: 0, error }
}

/** The code of an error that is a result: a prompt beyond the model's context, a budget that does not hold what the policy protects. */
export function refusal(error: unknown): string {
  const codes = ['BudgetBelowProtected', 'ContextExceeded']
  if (error instanceof HeadwiseError && codes.includes(error.code)) return error.code
  throw error
}

/** A compressed session, and what it took to get there. */
type Compressed = { session: Session } & Pick<
  Outcome,
  'prefillMs' | 'slots' | 'logicalBytes' | 'physicalBytes' | 'compressMs'
>

/** A fork of what was read, compressed. */
export async function compressed(from: Reading, spec: PolicySpec | null): Promise<Compressed> {
  const session = await from.fork()
  try {
    const compressMs = spec ? (await session.compress(spec)).ms : 0
    const { slots, logicalBytes, physicalBytes } = (await session.stats()).memory
    return { session, prefillMs: from.ms, slots, logicalBytes, physicalBytes, compressMs }
  } catch (error) {
    await session.dispose()
    throw error
  }
}

/** Asks an item's questions behind a compressed cache, which stays as it is. In the query-aware mode the first one is in it already. */
export async function ask(
  item: Item,
  prompt: Prompt,
  behind: Compressed,
  firstIsRead: boolean,
  maxTokens: number,
): Promise<Outcome> {
  const { session: source, ...before } = behind
  const outcome: Outcome = { turns: [], ...before, decodeMs: 0, decodeTokens: 0 }
  await using session = await source.fork()
  const read = async (tokens: Uint32Array) => {
    if (tokens.length > 0) outcome.prefillMs += (await session.prefill(tokens, { compress: false })).ms
  }
  for (const [turn, { answers }] of item.turns.entries()) {
    if (turn > 0 || !firstIsRead) await read(prompt.questions[turn] as Uint32Array)
    await using answerer = await session.fork()
    const text = await answerer.complete({ maxTokens: item.maxTokens ?? maxTokens, stop: item.stop ?? [] })
    const { decodeMs, decodeTokens } = await answerer.stats()
    outcome.decodeMs += decodeMs
    outcome.decodeTokens += decodeTokens
    outcome.turns.push({ score: score(item.metric ?? 'contains', text, answers, item.classes), text })
    // What is asked next stands behind the right answer, so that one mistake is not counted twice.
    const right = prompt.answers[turn]
    if (right) await read(right)
  }
  if (item.continuation !== undefined) {
    const { logProbs, ms } = await session.logLikelihood(prompt.continuation)
    const known = logProbs.filter((value) => value !== null)
    outcome.nll = { sum: -known.reduce((sum, value) => sum + value, 0), tokens: known.length }
    outcome.prefillMs += ms
  }
  return outcome
}

/** Tokens that a sample decodes. */
const SAMPLE_TOKENS = 16

/** Decodes a few tokens behind a compressed cache, with nothing else running, and looks at what each head kept. */
export async function sample(session: Session): Promise<Omit<SampleRecord, 'key'>> {
  await using own = await session.fork()
  const { lengths, seen } = await own.stats()
  await own.complete({ maxTokens: SAMPLE_TOKENS + 1, ignoreEos: true })
  const { decodeMs, decodeTokens } = await own.stats()
  return {
    msPerToken: decodeMs / Math.max(decodeTokens, 1),
    share: lengths.map((heads) => heads.map((length) => Number((length / seen).toFixed(4)))),
  }
}
