import { readFileSync } from 'node:fs'
import { bytes } from '../cli/progress.js'
import { textTable } from '../cli/text-table.js'
import { HeadwiseError } from '../errors.js'
import { type Interval, pairedBootstrap } from './statistics.js'

/** What two result files must have in common; other programs write it too (`benches/peers/kvpress`). */
export interface ComparableRow {
  policy: string
  keep: number | null
  mode: string
  task: string
  items: { id: string; correct: boolean; score?: number; text: string }[]
  keptBytes?: number
}

/** One row of both files, on the items that both have. */
export interface Comparison {
  policy: string
  keep: number | null
  mode: string
  task: string
  items: number
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
  const name = ({ policy, keep, mode, task }: ComparableRow) => JSON.stringify([policy, keep, mode, task])
  const others = new Map(second.map((row) => [name(row), row]))
  return first.flatMap((row) => {
    const other = others.get(name(row))
    return other ? [compareRows(row, other)] : []
  })
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
  const { policy, keep, mode, task } = a
  return {
    policy,
    keep,
    mode,
    task,
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
  const lines = rows.map(({ policy, keep, mode, task, items, correct, agreement, sameText, difference, keptBytes }) => {
    const interval = difference.interval.map((x) => (100 * x).toFixed(0)).join(', ')
    const differs = difference.interval[0] > 0 || difference.interval[1] < 0
    return [
      task,
      mode,
      policy,
      String(keep ?? ''),
      `${correct[0]} and ${correct[1]} of ${items}`,
      percent(agreement),
      percent(sameText),
      `${(100 * difference.mean).toFixed(1)} [${interval}]${differs ? ' differs' : ''}`,
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
