import { readFileSync } from 'node:fs'
import { bytes } from '../cli/progress.js'
import { textTable } from '../cli/text-table.js'
import { HeadwiseError } from '../errors.js'
import { type Interval, pairedBootstrap } from './statistics.js'

/** What two result files must have in common; other programs write it too (`benches/peers/kvpress`). */
export interface ComparableRow {
  policy: string
  keep: number | null
  /** The budget where it is no share. */
  budget?: object | null
  mode: string
  task: string
  /** Null for losses in nats, where less is better and nothing is right or wrong. */
  interval?: Interval | null
  items: { id: string; correct: boolean; score?: number; text: string }[]
  keptBytes?: number
}

/** One row of both files, on the items that both have. */
export interface Comparison {
  policy: string
  /** The share that stays, or the budget in JSON. */
  keep: number | string
  mode: string
  task: string
  /** Both measured losses: then nothing is right, and agreement says nothing. */
  losses: boolean
  items: number
  /** Mean scores. */
  scores: [number, number]
  /** Right answers. */
  correct: [number, number]
  /** Share of items on which both are right or both are wrong. */
  agreement: number
  /** Share of items with the same text. */
  sameText: number
  /** Mean of the paired differences of the scores, second minus first, with a 95 % interval. */
  difference: { mean: number; interval: Interval }
  keptBytes: [number | null, number | null]
  /** Items on which they disagree. */
  disagreements: { id: string; texts: [string, string] }[]
}

/** The rows of a result file; a file from elsewhere is not trusted. */
export function readResults(path: string): ComparableRow[] {
  const fail = (reason: string) => new HeadwiseError('InvalidArgument', `${path}: ${reason}`, { path, reason })
  let parsed: unknown
  try {
    parsed = JSON.parse(readFileSync(path, 'utf8'))
  } catch (error) {
    throw fail((error as Error).message)
  }
  const results = (parsed as { results?: unknown } | null)?.results
  if (!Array.isArray(results)) throw fail('no "results"')
  results.forEach((row, i) => {
    const text = (name: string) => typeof row?.[name] === 'string'
    const item = (one: unknown) => {
      const { id, correct, text } = (one ?? {}) as Record<string, unknown>
      return typeof id === 'string' && typeof correct === 'boolean' && typeof text === 'string'
    }
    const fine = text('policy') && text('mode') && text('task') && Array.isArray(row.items) && row.items.every(item)
    if (!fine) throw fail(`results[${i}] is no row of results`)
  })
  return results
}

/** Rows of the same policy, share, mode and task, side by side. */
export function compare(first: readonly ComparableRow[], second: readonly ComparableRow[]): Comparison[] {
  const name = (row: ComparableRow) => JSON.stringify([row.policy, shareOrBudget(row), row.mode, row.task])
  const others = new Map(second.map((row) => [name(row), row]))
  return first.flatMap((row) => {
    const other = others.get(name(row))
    return other ? [compareRows(row, other)] : []
  })
}

/** What a setting is known by beside its policy: the share that stays, or another budget. */
export function shareOrBudget({ keep, budget }: { keep: number | null; budget?: object | null }): number | string {
  return keep ?? JSON.stringify(budget ?? null)
}

function compareRows(a: ComparableRow, b: ComparableRow): Comparison {
  const others = new Map(b.items.map((item) => [item.id, item]))
  const pairs = a.items.flatMap((item) => {
    const other = others.get(item.id)
    return other ? [[item, other] as const] : []
  })
  const score = (item: ComparableRow['items'][number]) => item.score ?? Number(item.correct)
  const share = (test: (pair: (typeof pairs)[number]) => boolean) =>
    pairs.filter(test).length / Math.max(pairs.length, 1)
  const { policy, mode, task } = a
  const mean = (at: 0 | 1) => pairs.reduce((sum, pair) => sum + score(pair[at]), 0) / Math.max(pairs.length, 1)
  return {
    policy,
    keep: shareOrBudget(a),
    mode,
    task,
    losses: a.interval === null && b.interval === null,
    scores: [mean(0), mean(1)],
    items: pairs.length,
    correct: [pairs.filter(([one]) => one.correct).length, pairs.filter(([, other]) => other.correct).length],
    agreement: share(([one, other]) => one.correct === other.correct),
    sameText: share(([one, other]) => one.text === other.text),
    difference: pairedBootstrap(pairs.map(([one, other]) => score(other) - score(one))),
    keptBytes: [a.keptBytes ?? null, b.keptBytes ?? null],
    disagreements: pairs
      .filter(([one, other]) => one.correct !== other.correct)
      .map(([one, other]) => ({ id: one.id, texts: [one.text, other.text] })),
  }
}

/** For the terminal: a line a row, then what they disagree on. */
export function comparisonTable(rows: readonly Comparison[]): string {
  const percent = (share: number) => `${(100 * share).toFixed(1)} %`
  const lines = rows.map((row) => {
    const { losses, items, correct, scores, agreement, sameText, difference, keptBytes } = row
    const unit = (x: number) => (losses ? x.toFixed(3) : (100 * x).toFixed(1))
    const differs = difference.interval[0] > 0 || difference.interval[1] < 0
    return [
      row.task,
      row.mode,
      row.policy,
      String(row.keep),
      losses ? `${scores.map((x) => x.toFixed(3)).join(' and ')} nats` : `${correct[0]} and ${correct[1]} of ${items}`,
      losses ? '' : percent(agreement),
      losses ? '' : percent(sameText),
      `${unit(difference.mean)} [${difference.interval.map(unit).join(', ')}]${differs ? ' differs' : ''}`,
      keptBytes.map((n) => (n === null ? '?' : bytes(n))).join(', '),
    ]
  })
  const head = ['task', 'mode', 'policy', 'keep', 'right', 'agree', 'same text', 'difference', 'kept']
  const disagreements = rows.flatMap(({ task, mode, policy, keep, disagreements }) =>
    disagreements.map(
      ({ id, texts }) =>
        `  ${task} ${mode} ${policy} ${keep} ${id}: ${texts.map((t) => JSON.stringify(t)).join(' and ')}`,
    ),
  )
  const list = disagreements.length > 0 ? ['', 'One is right, the other wrong:', ...disagreements] : []
  return `${[textTable(head, lines), ...list].join('\n')}\n`
}
