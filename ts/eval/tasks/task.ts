import { random } from '../../demo/documents.js'
import { HeadwiseError } from '../../errors.js'
import type { Item, Metric } from '../item.js'

export interface TaskOptions {
  /** Most tokens of context and question together; items come as close as the task's pieces allow. */
  tokens: number
  items: number
  seed: number
  /** How many tokens a text has. */
  count: (text: string) => number
  /** A file that the task is made of, where it is made of one. */
  data?: string
}

/** Makes items of any length. An item depends on the seed, the task, the length and its index, and on nothing else. */
export interface Task {
  name: string
  /** One line for the help. */
  summary: string
  generate(options: TaskOptions): Item[]
}

/** Random numbers in [0, 1). */
export type Next = () => number

/** The generator of one item; others of the same item are asked for with other `parts`. */
export function itemRandom(task: string, { seed, tokens }: TaskOptions, ...parts: number[]): Next {
  // FNV-1a over the text of everything that the item depends on.
  let hash = 0x811c9dc5
  for (const character of [task, seed, tokens, ...parts].join('/')) {
    hash = Math.imul(hash ^ character.charCodeAt(0), 0x01000193)
  }
  return random(hash)
}

/** Context, question and answers at one size of the haystack. */
export interface Draft {
  context: string
  question: string
  answers: string[]
}

/** How a task whose haystack can have any size is drawn up. */
export interface Plan {
  name: string
  metric: Metric
  maxTokens: number
  stop?: string[]
  /** Fewest pieces that a haystack can have. Default 1. */
  least?: number
  /** Most of them, where they run out. */
  most?: number
  /** A haystack of `size` pieces. The same `next` gives the same question at every size. */
  draft(size: number, next: Next, index: number): Draft
}

/** Each item at the largest size that the length holds. */
export function generate(plan: Plan, options: TaskOptions): Item[] {
  return Array.from({ length: options.items }, (_, index) => {
    const draft = (size: number) => plan.draft(size, itemRandom(plan.name, options, index), index)
    const length = (size: number) => {
      const { context, question } = draft(size)
      return options.count(context + question)
    }
    const { least = 1, most = Number.MAX_SAFE_INTEGER } = plan
    const size = largest(least, most, options.tokens, length)
    if (size === undefined) throw tooSmall(plan.name, options.tokens, length(least))
    if (size === most && length(most) < 0.9 * options.tokens) throw tooLarge(plan.name, options.tokens, length(most))
    const { context, question, answers } = draft(size)
    return {
      id: `${plan.name}-${options.tokens}-${index}`,
      task: plan.name,
      context,
      turns: [{ question, answers }],
      metric: plan.metric,
      maxTokens: plan.maxTokens,
      ...(plan.stop && { stop: plan.stop }),
    }
  })
}

/**
 * The largest size in `least..=most` whose length is within `limit`; undefined where there is none. Lengths must about grow in
 * proportion, so it goes where they point instead of halving: a length is found by building and counting a whole text.
 */
export function largest(
  least: number,
  most: number,
  limit: number,
  length: (size: number) => number,
): number | undefined {
  let low = least
  let lowLength = length(low)
  if (lowLength > limit) return undefined
  let high = most + 1
  // A piece is taken to be a token or more until it is known better: a first step too far could count a whole library.
  let slope = Math.max(lowLength / Math.max(low, 1), 1)
  while (high - low > 1) {
    const pointed = low + Math.max(1, Math.floor((limit - lowLength) / slope))
    const size = pointed < high ? pointed : Math.floor((low + high) / 2)
    const found = length(size)
    slope = Math.max((found - lowLength) / (size - low), 1e-3)
    if (found <= limit) {
      low = size
      lowLength = found
    } else high = size
  }
  return low
}

export function tooSmall(task: string, tokens: number, least?: number): HeadwiseError {
  const needs = least === undefined ? '' : `: it needs at least ${least}`
  return new HeadwiseError('InvalidArgument', `${task} does not fit into ${tokens} tokens${needs}`, {
    task,
    tokens,
    ...(least !== undefined && { least }),
  })
}

function tooLarge(task: string, tokens: number, most: number): HeadwiseError {
  return new HeadwiseError('InvalidArgument', `${task} cannot fill ${tokens} tokens: it has text for ${most}`, {
    task,
    tokens,
    most,
  })
}
