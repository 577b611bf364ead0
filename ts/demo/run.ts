import { HeadwiseError } from '../errors.js'
import type { PolicySpec } from '../generated/policy.js'
import type { Model } from '../model.js'
import { policy } from '../policy.js'
import type { KeptPositions, Session } from '../session.js'
import { type Document, makeDocument, type Needle, type Question } from './documents.js'

/** What the demo compares, in this order: all at the same budget, prompt and question. */
export const DEMO_POLICIES = {
  full: () => policy.full(),
  streamingLLM: (keep: number) => policy.streamingLLM({ budget: { keep } }),
  snapKV: (keep: number) => policy.snapKV({ budget: { keep } }),
  adaSnapKV: (keep: number) => policy.adaSnapKV({ budget: { keep } }),
  lookahead: (keep: number) => policy.lookahead({ budget: { keep } }),
} satisfies Record<string, (keep: number) => PolicySpec>

export type DemoPolicy = keyof typeof DEMO_POLICIES

export interface DemoOptions {
  policies: readonly DemoPolicy[]
  keeps: readonly number[]
  needles: readonly Needle[]
  /** Questions of each kind of needle. */
  questions: number
  /** Tokens of a document, about. */
  tokens: number
  seed: number
  onProgress?: (done: number, total: number, what: string) => void
}

/** One policy at one budget on one kind of needle. */
export interface DemoRow {
  policy: DemoPolicy
  keep: number
  needle: Needle
  correct: number
  total: number
  /** Physical bytes of the cache, mean over the questions. */
  kvBytesBefore: number
  kvBytesAfter: number
  decodeMsPerToken: number
  compressMs: number
  /** Resident memory of the process after the last question. */
  processBytes: number
  /** `BudgetBelowProtected`: the budget does not hold the policy's window, nothing was asked. */
  error?: string
}

export interface DemoAnswer {
  policy: DemoPolicy
  keep: number
  question: Question
  text: string
  correct: boolean
}

/** Share of its slots that each head kept, `[layer][KV head]`, of the first question. */
export interface HeatMap {
  policy: DemoPolicy
  keep: number
  share: number[][]
}

export interface DemoResult {
  model: string
  promptTokens: number
  rows: DemoRow[]
  answers: DemoAnswer[]
  heatMaps: HeatMap[]
}

/** Needles in one document, all of one kind. */
const NEEDLES_PER_DOCUMENT = 2

const MAX_TOKENS: Record<Needle, number> = { phrase: 12, serial: 20 }

class Cell {
  correct = 0
  total = 0
  before = 0
  after = 0
  decodeMs = 0
  decodeTokens = 0
  compressMs = 0
  processBytes = 0
  belowWindow = false

  row(policy: DemoPolicy, keep: number, needle: Needle): DemoRow {
    const mean = (sum: number) => (this.total ? sum / this.total : 0)
    return {
      policy,
      keep,
      needle,
      correct: this.correct,
      total: this.total,
      kvBytesBefore: Math.round(mean(this.before)),
      kvBytesAfter: Math.round(mean(this.after)),
      decodeMsPerToken: this.decodeTokens ? this.decodeMs / this.decodeTokens : 0,
      compressMs: mean(this.compressMs),
      processBytes: this.processBytes,
      ...(this.belowWindow && { error: 'BudgetBelowProtected' }),
    }
  }
}

/**
 * Asks a real model for facts in the middle of long documents. Each document is read once; each question is read once on a
 * fork of it; each policy then cuts its own fork of that and answers.
 */
export async function runDemo(model: Model, options: DemoOptions): Promise<DemoResult> {
  const { policies, keeps, needles, questions, tokens, seed, onProgress } = options
  const combinations = policies.flatMap((name) => (name === 'full' ? [1] : keeps).map((keep) => ({ name, keep })))
  const cells = new Map<string, Cell>()
  const cell = (...key: unknown[]) => {
    const id = key.join(' ')
    const found = cells.get(id) ?? new Cell()
    cells.set(id, found)
    return found
  }
  const answers: DemoAnswer[] = []
  const heatMaps: HeatMap[] = []
  const total = questions * needles.length * combinations.length
  let promptTokens = 0
  let documents = 0
  let done = 0
  for (const [needle, inDocument] of needles.flatMap((needle) => share(questions, needle))) {
    const kinds = Array<Needle>(inDocument).fill(needle)
    const count = (text: string) => model.tokenize(text).length
    const document: Document = makeDocument(seed + documents, tokens, kinds, count)
    onProgress?.(done, total, `reading document ${documents + 1}`)
    await using base = await model.createSession()
    promptTokens += (await base.prefill(document.text)).tokens
    documents += 1
    for (const question of document.questions) {
      await using asked = await base.fork()
      await asked.prefill(question.prompt)
      for (const { name, keep } of combinations) {
        onProgress?.(done, total, `${name} at ${keep}`)
        await using session = await asked.fork()
        const here = cell(name, keep, question.needle)
        const report = await session.compress(DEMO_POLICIES[name](keep)).catch(belowWindow)
        if (!report) {
          here.belowWindow = true
          done += 1
          continue
        }
        const text = await answer(session, question)
        const { decodeMs, decodeTokens } = await session.stats()
        const correct = text.includes(question.answer)
        here.total += 1
        here.correct += Number(correct)
        here.before += report.before.physicalBytes
        here.after += report.after.physicalBytes
        here.compressMs += report.ms
        here.decodeMs += decodeMs
        here.decodeTokens += decodeTokens
        here.processBytes = process.memoryUsage.rss()
        if (!heatMaps.some((map) => map.policy === name && map.keep === keep)) {
          heatMaps.push({ policy: name, keep, share: shares(await session.inspect(), (await session.stats()).seen) })
        }
        answers.push({ policy: name, keep, question, text, correct })
        done += 1
      }
    }
  }
  onProgress?.(total, total, 'done')
  const rows = needles.flatMap((needle) =>
    combinations.map(({ name, keep }) => cell(name, keep, needle).row(name, keep, needle)),
  )
  return { model: model.path, promptTokens: Math.round(promptTokens / Math.max(documents, 1)), rows, answers, heatMaps }
}

/** How many questions of a kind each document holds. */
function share(questions: number, needle: Needle): [Needle, number][] {
  const documents = Math.ceil(questions / NEEDLES_PER_DOCUMENT)
  const held = (i: number) => Math.min(NEEDLES_PER_DOCUMENT, questions - i * NEEDLES_PER_DOCUMENT)
  return Array.from({ length: documents }, (_, i) => [needle, held(i)])
}

/** A budget that does not hold a policy's window is a row of the table, not the end of the demo. */
function belowWindow(error: unknown): undefined {
  if (!(error instanceof HeadwiseError && error.code === 'BudgetBelowProtected')) throw error
}

function answer(session: Session, question: Question): Promise<string> {
  return session.complete({ maxTokens: MAX_TOKENS[question.needle], stop: ['\n'] })
}

function shares(kept: KeptPositions, seen: number): number[][] {
  return kept.lengths().map((heads) => heads.map((length) => length / seen))
}
