import { readFileSync } from 'node:fs'
import { HeadwiseError } from '../errors.js'
import type { Budget } from '../generated/policy.js'
import type { Model } from '../model.js'
import type { Session } from '../session.js'
import { shareOrBudget } from './compare.js'
import type { Item } from './item.js'
import type { Mode, Setting } from './plan.js'
import { encode } from './prompt.js'

/** Which tokens every head keeps of one prompt: a line of the files that are compared. */
export interface KeptLine {
  policy: string
  /** Share of the tokens that stays, where the budget is one. */
  keep: number | null
  /** The budget; null for the whole cache. */
  budget?: Budget | null
  mode: Mode
  task: string
  id: string
  /** Ascending positions, `[layer][KV head]`. */
  kept: number[][][]
}

/** A prompt, its tokens as text, and what each setting keeps of it. */
export interface KeptPrompt {
  item: Item
  mode: Mode
  /** One piece of text a token; empty for a token that only begins a character. */
  tokens: string[]
  lines: KeptLine[]
}

/** Reads an item once a mode and compresses a fork for each setting. */
export async function* keptOf(
  model: Model,
  item: Item,
  settings: readonly Setting[],
  chat: boolean,
): AsyncGenerator<KeptPrompt> {
  const { context, joint } = encode(model, item, chat)
  for (const mode of new Set(settings.map(({ mode }) => mode))) {
    const ids = mode === 'aware' ? joint : context
    const mine = settings.filter((setting) => setting.mode === mode)
    await using session = await model.createSession({ observeFor: mine.flatMap(({ spec }) => spec ?? []) })
    await session.prefill(ids, { compress: false })
    const lines: KeptLine[] = []
    for (const { policy, budget, spec } of mine) {
      await using fork = await session.fork()
      if (spec) await fork.compress(spec)
      const keep = budget === null ? 1 : 'keep' in budget ? budget.keep : null
      lines.push({ policy, keep, budget, mode, task: item.task, id: item.id, kept: await positions(fork) })
    }
    yield { item, mode, tokens: pieces(model, ids), lines }
  }
}

async function positions(session: Session): Promise<number[][][]> {
  const kept = await session.inspect()
  const heads = Array.from({ length: kept.kvHeads }, (_, head) => head)
  return Array.from({ length: kept.layers }, (_, layer) => heads.map((head) => [...kept.head(layer, head)]))
}

/** Most tokens that one character takes. */
const LONGEST = 6

/** The text that each token adds to the one before it; a character of several tokens belongs to the last of them. */
function pieces(model: Model, ids: Uint32Array): string[] {
  let from = 0
  return Array.from(ids, (_, i) => {
    // Behind its predecessor, because some tokenizers drop a space at the beginning of a text.
    const before = ids.subarray(Math.max(from - 1, 0), from)
    const text = model.detokenize(ids.subarray(Math.max(from - 1, 0), i + 1)).slice(model.detokenize(before).length)
    if (text.endsWith('\uFFFD') && i - from < LONGEST) return ''
    from = i + 1
    return text
  })
}

/** One setting in both files, on the prompts that both have. */
export interface KeptComparison {
  policy: string
  /** The share that stays, or the budget in JSON. */
  keep: number | string
  mode: string
  prompts: number
  /** Prompts of which both keep the same slots everywhere. */
  same: number
  /** Slots that both keep, as a share of those that either keeps at most; mean over the prompts. */
  agreement: number
  /** Prompts that differ, and the slots that only one of the two keeps, layer by layer. */
  differences: { task: string; id: string; layers: number[] }[]
}

/** The lines of a file of kept slots; a file from elsewhere is not trusted. */
export function readKept(path: string): KeptLine[] {
  const lines = readFileSync(path, 'utf8').split('\n')
  return lines.flatMap((line, i) => {
    if (line.trim() === '') return []
    try {
      const parsed = JSON.parse(line)
      const texts = [parsed.policy, parsed.mode, parsed.task, parsed.id].every((text) => typeof text === 'string')
      const whole = (row: unknown) => Array.isArray(row) && row.every(Number.isSafeInteger)
      const heads = (layer: unknown) => Array.isArray(layer) && layer.every(whole)
      if (texts && Array.isArray(parsed.kept) && parsed.kept.every(heads)) return [parsed]
    } catch {
      // Reported below, as is JSON that is something else.
    }
    throw new HeadwiseError('InvalidArgument', `${path}:${i + 1}: no line of kept slots`, { path, line: i + 1 })
  })
}

/** How far two programs keep the same slots. */
export function compareKept(first: readonly KeptLine[], second: readonly KeptLine[]): KeptComparison[] {
  const name = (line: KeptLine) => JSON.stringify([line.policy, shareOrBudget(line), line.mode, line.task, line.id])
  const others = new Map(second.map((line) => [name(line), line]))
  const rows = new Map<string, KeptComparison & { sum: number }>()
  for (const line of first) {
    const other = others.get(name(line))
    if (!other) continue
    const { policy, mode, task, id } = line
    const keep = shareOrBudget(line)
    const key = JSON.stringify([policy, keep, mode])
    const row = rows.get(key) ?? { policy, keep, mode, prompts: 0, same: 0, agreement: 0, differences: [], sum: 0 }
    rows.set(key, row)
    const { common, most, layers } = overlap(line.kept, other.kept)
    row.prompts += 1
    row.sum += common / Math.max(most, 1)
    row.agreement = row.sum / row.prompts
    if (layers.every((n) => n === 0)) row.same += 1
    else row.differences.push({ task, id, layers })
  }
  return [...rows.values()].map(({ sum: _, ...row }) => row)
}

function overlap(a: number[][][], b: number[][][]): { common: number; most: number; layers: number[] } {
  const sizes: [number, number] = [0, 0]
  let common = 0
  const layers = Array.from({ length: Math.max(a.length, b.length) }, (_, layer) => {
    const heads = Math.max(a[layer]?.length ?? 0, b[layer]?.length ?? 0)
    let differing = 0
    for (let head = 0; head < heads; head++) {
      const [own, other] = [a[layer]?.[head] ?? [], b[layer]?.[head] ?? []]
      const there = new Set(other)
      const both = own.filter((position) => there.has(position)).length
      common += both
      sizes[0] += own.length
      sizes[1] += other.length
      differing += own.length + other.length - 2 * both
    }
    return differing
  })
  return { common, most: Math.max(...sizes), layers }
}

/** For the terminal. */
export function keptTable(rows: readonly KeptComparison[]): string {
  const lines = rows.flatMap(({ policy, keep, mode, prompts, same, agreement, differences }) => [
    `${policy} at ${keep}, ${mode}: ${(100 * agreement).toFixed(2)} % of the slots in common, ${same} of ${prompts} prompts all the same`,
    ...differences.map(({ task, id, layers }) => {
      const where = layers.flatMap((n, layer) => (n > 0 ? [`layer ${layer}: ${n}`] : []))
      return `  ${task} ${id}: slots that only one keeps: ${where.join(', ')}`
    }),
  ])
  return `${lines.join('\n')}\n`
}
