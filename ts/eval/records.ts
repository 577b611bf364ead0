import type { Item } from './item.js'
import { digest, type Setting } from './plan.js'

/** A line of the journal. */
export type Record = AnswerRecord | SampleRecord

/** What came of one item in one setting. */
export interface AnswerRecord {
  key: string
  /** One for each question. */
  turns: { score: number; text: string }[]
  /** Of a continuation: its loss in nats, summed over its tokens, and how many these are. */
  nll?: { sum: number; tokens: number }
  /** Behind the compression. */
  slots: number
  logicalBytes: number
  physicalBytes: number
  /** Milliseconds of reading the prompt; what several items or settings share is read once but counted for each. */
  prefillMs: number
  compressMs: number
  /** Milliseconds of the decode steps that the session took part in; a step serves all that run. */
  decodeMs: number
  decodeTokens: number
  /** Why the item could not be served: the error's code. */
  error?: string
}

/** A compressed cache by itself. */
export interface SampleRecord {
  key: string
  /** Milliseconds a token, with nothing else running. */
  msPerToken: number
  /** Share of its slots that each head keeps, `[layer][KV head]`. */
  share: number[][]
}

/** Items that share a context, so that it is read once. */
export interface Group {
  items: Item[]
  /** One of the first of its task: every setting is also sampled on it. */
  sampled: boolean
}

/** Items by context, in the order in which contexts first appear. */
export function grouped(items: readonly Item[], samples: number): Group[] {
  const groups = new Map<string, Group>()
  const sampled = new Map<string, number>()
  for (const item of items) {
    const group = groups.get(item.context)
    if (group) {
      group.items.push(item)
      continue
    }
    // Nothing can be decoded behind an empty context.
    const before = item.context === '' ? samples : (sampled.get(item.task) ?? 0)
    if (before < samples) sampled.set(item.task, before + 1)
    groups.set(item.context, { items: [item], sampled: before < samples })
  }
  return [...groups.values()]
}

/** A continuation is scored behind a context that was compressed without knowing it, so there is nothing to be aware of. */
export function applies(item: Item, setting: Setting): boolean {
  return item.continuation === undefined || setting.mode === 'agnostic'
}

/** What an item's answers in a setting are filed under. */
export function answerKey(item: Item, setting: Setting, maxTokens: number): string {
  return digest('answer', { ...item, maxTokens: item.maxTokens ?? maxTokens }, setting.mode, setting.spec)
}

/** What a setting's sample on a group is filed under. */
export function sampleKey(group: Group, setting: Setting): string {
  return digest('sample', group.items[0], setting.mode, setting.spec)
}
