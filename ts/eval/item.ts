/** How the text that a model gave is judged, from 0 (wrong) to 1 (right). See `metrics.ts`. */
export type Metric =
  | 'contains'
  | 'containsAll'
  | 'containsAny'
  | 'f1'
  | 'rougeL'
  | 'exactMatch'
  | 'editSimilarity'
  | 'classification'
  | 'retrieval'
  | 'count'

/** A question, and what a right answer looks like. */
export interface Turn {
  /** What is appended to the text before it, as it is. */
  question: string
  answers: string[]
}

/** One text and what is asked about it: what every task is made of. Items with the same context share its prefill. */
export interface Item {
  /** Unique within its task. */
  id: string
  task: string
  /** The text whose cache is compressed. */
  context: string
  /**
   * Asked one after the other; before each the right answers of those before stand in the cache (the first; all where all are asked for). Most tasks have one. Query-aware
   * compression sees the first question only.
   */
  turns: Turn[]
  /** Scored instead of asking: the loss of this text after the compressed context. Then there are no turns. */
  continuation?: string
  /** Default `contains`. */
  metric?: Metric
  /** All the classes that a `classification` may answer. */
  classes?: string[]
  /** Most tokens of an answer. Default: the command's `--max-tokens`. */
  maxTokens?: number
  /** Where an answer ends besides the model's end of text. Default: nowhere. */
  stop?: string[]
}
