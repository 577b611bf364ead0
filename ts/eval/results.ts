import type { Budget } from '../generated/policy.js'
import type { Item } from './item.js'
import type { Journal } from './journal.js'
import type { Mode, Setting } from './plan.js'
import { type AnswerRecord, answerKey, applies, type Group, grouped, type Record, sampleKey } from './records.js'
import { type Interval, median, pairedBootstrap, wilson } from './statistics.js'

/** What came of one question. */
export interface ItemResult {
  id: string
  correct: boolean
  /** From 0 to 1. Of a continuation: its loss in nats a token, less is better. */
  score: number
  /** What the model said. */
  text: string
  /** Why there is no answer. */
  error?: string
}

/** One policy at one budget in one mode on one task. */
export interface ResultRow {
  policy: string
  /** Share of the tokens that stays; 1 for the full cache, null where the budget is not a share. */
  keep: number | null
  /** Null for the full cache. */
  budget: Budget | null
  mode: Mode
  task: string
  /** Items with a score of 1. */
  correct: number
  total: number
  /** Of these, items that could not be served; they count as wrong. */
  errors: number
  /** Mean score. Of continuations: nats a token over all tokens. */
  score: number
  /** Wilson's 95 % interval of correct / total; null for continuations. */
  interval: Interval | null
  /** Mean difference of the scores to the full cache's on the same items, with a paired bootstrap's 95 % interval. */
  versusFull: { mean: number; interval: Interval } | null
  /** Bytes of the slots that are kept, mean over the items. */
  keptBytes: number
  /** Bytes of the blocks that hold them, mean over the items. */
  physicalBytes: number
  /** Seconds of reading the prompts; what is shared is read once but counted in each row. */
  prefillSeconds: number
  compressSeconds: number
  /** Seconds of the decode steps that the row's sessions took part in; a step serves all sessions that run. */
  decodeSeconds: number
  /** Milliseconds a token of one session with nothing else running, median over the samples; null without samples. */
  msPerToken: number | null
  items: ItemResult[]
}

/** Share of its slots that each head keeps, mean over the samples, `[layer][KV head]`. */
export interface KeptShare {
  policy: string
  budget: Budget | null
  mode: Mode
  task: string
  share: number[][]
}

/** What `headwise eval` writes. */
export interface Results {
  engine: string
  model: string
  date: string
  command: string
  machine: string
  /** Without their budgets. */
  policies: { [name: string]: object | null }
  results: ResultRow[]
  kept: KeptShare[]
}

/** The rows of an experiment whose journal is complete, by task, mode, policy and budget in the order of the plan. */
export function rows(
  items: readonly Item[],
  settings: readonly Setting[],
  journal: Journal<Record>,
  maxTokens: number,
  samples: number,
): { results: ResultRow[]; kept: KeptShare[] } {
  const groups = grouped(items, samples).filter(({ sampled }) => sampled)
  const tasks = [...new Set(items.map(({ task }) => task))]
  const results: ResultRow[] = []
  const kept: KeptShare[] = []
  for (const task of tasks) {
    const mine = items.filter((item) => item.task === task)
    for (const setting of settings.filter((s) => mine.some((item) => applies(item, s)))) {
      const { policy, budget, mode } = setting
      const answered = mine
        .filter((item) => applies(item, setting))
        .map((item) => [item, journal.entries.get(answerKey(item, setting, maxTokens))] as const)
      const taskGroups = groups.filter((group) => group.items.some((item) => item.task === task))
      const seen = taskGroups.flatMap((group) => sampleOf(journal, group, setting))
      results.push(
        row(
          setting,
          task,
          answered as [Item, AnswerRecord][],
          seen.map(({ msPerToken }) => msPerToken),
        ),
      )
      if (seen.length > 0) kept.push({ policy, budget, mode, task, share: meanShare(seen.map(({ share }) => share)) })
    }
  }
  for (const row of results) row.versusFull = versusFull(row, results)
  return { results, kept }
}

function sampleOf(journal: Journal<Record>, group: Group, setting: Setting) {
  const record = journal.entries.get(sampleKey(group, setting))
  return record && 'share' in record && record.error === undefined ? [record] : []
}

function row(setting: Setting, task: string, answered: [Item, AnswerRecord][], msPerToken: number[]): ResultRow {
  const { policy, budget, mode } = setting
  const items = answered.flatMap(([item, record]) => itemResults(item, record))
  const correct = items.filter((item) => item.correct).length
  const records = answered.map(([, record]) => record)
  const served = records.filter(({ error }) => error === undefined)
  const sum = (of: (record: AnswerRecord) => number, over = records) => over.reduce((s, record) => s + of(record), 0)
  const seconds = (ms: number) => Number((ms / 1e3).toFixed(4))
  const mean = (of: (record: AnswerRecord) => number) => Math.round(sum(of, served) / Math.max(served.length, 1))
  const tokens = sum(({ nll }) => nll?.tokens ?? 0)
  const isLoss = answered.some(([item]) => item.continuation !== undefined)
  return {
    policy,
    keep: budget === null ? 1 : 'keep' in budget ? budget.keep : null,
    budget,
    mode,
    task,
    correct,
    total: items.length,
    errors: items.filter(({ error }) => error !== undefined).length,
    score: isLoss
      ? sum(({ nll }) => nll?.sum ?? 0) / Math.max(tokens, 1)
      : items.reduce((s, item) => s + item.score, 0) / Math.max(items.length, 1),
    interval: isLoss ? null : wilson(correct, items.length),
    versusFull: null,
    keptBytes: mean(({ logicalBytes }) => logicalBytes),
    physicalBytes: mean(({ physicalBytes }) => physicalBytes),
    prefillSeconds: seconds(sum(({ prefillMs }) => prefillMs)),
    compressSeconds: seconds(sum(({ compressMs }) => compressMs)),
    decodeSeconds: seconds(sum(({ decodeMs }) => decodeMs)),
    msPerToken: msPerToken.length > 0 ? Number(median(msPerToken).toFixed(3)) : null,
    items,
  }
}

/** One result for each question: `id` for the only one, `id#1`, `id#2`, … for several. */
function itemResults(item: Item, record: AnswerRecord): ItemResult[] {
  const { error, nll } = record
  if (item.continuation !== undefined) {
    const score = nll ? nll.sum / Math.max(nll.tokens, 1) : 0
    return [{ id: item.id, correct: false, score, text: '', ...(error !== undefined && { error }) }]
  }
  return item.turns.map((_, turn) => {
    const id = item.turns.length > 1 ? `${item.id}#${turn + 1}` : item.id
    const { score, text } = record.turns[turn] ?? { score: 0, text: '' }
    return { id, correct: score === 1, score, text, ...(error !== undefined && { error }) }
  })
}

function versusFull(row: ResultRow, all: readonly ResultRow[]): ResultRow['versusFull'] {
  const full = all.find(({ policy, mode, task }) => policy === 'full' && mode === row.mode && task === row.task)
  if (!full || full === row) return null
  // A question that was refused counts as wrong; a loss that was not measured is no loss of 0.
  const differences = row.items.flatMap((item, i) => {
    const other = full.items[i] as ItemResult
    const measured = row.interval !== null || (item.error === undefined && other.error === undefined)
    return measured ? [item.score - other.score] : []
  })
  return row.errors < row.total && differences.length > 0 ? pairedBootstrap(differences) : null
}

function meanShare(samples: readonly number[][][]): number[][] {
  const first = samples[0] as number[][]
  const mean = (layer: number, head: number) =>
    samples.reduce((sum, share) => sum + (share[layer]?.[head] as number), 0) / samples.length
  return first.map((heads, layer) => heads.map((_, head) => Number(mean(layer, head).toFixed(4))))
}
