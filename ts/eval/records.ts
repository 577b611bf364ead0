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
  /** Why there is none: the error's code. Then the rest is empty. */
  error?: string
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

/** Items by context, in the order in which contexts first appear; the first `samples` contexts of each task are sampled. */
export function grouped(items: readonly Item[], samples: number): Group[] {
  const groups = new Map<string, Item[]>()
  for (const item of items) {
    // A continuation never goes through the chat template, so its context has other tokens.
    const text = JSON.stringify([item.continuation === undefined, item.context])
    groups.set(text, [...(groups.get(text) ?? []), item])
  }
  const counts = new Map<string, number>()
  return [...groups.values()].map((items) => {
    const tasks = [...new Set(items.map(({ task }) => task))]
    // Nothing can be decoded behind an empty context.
    const sampled = items[0]?.context !== '' && tasks.some((task) => (counts.get(task) ?? 0) < samples)
    if (sampled) for (const task of tasks) counts.set(task, (counts.get(task) ?? 0) + 1)
    return { items, sampled }
  })
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
