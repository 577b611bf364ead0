import type { Item, Metric, Turn } from '../item.js'
import { LETTERS, options, rightLetter } from './choices.js'
import { jsonLines, type Row } from './row.js'
import { subtask } from './subtask.js'

interface Subtask {
  metric: Metric
  maxTokens: number
  before: string
  /** What is asked; the first question and the later ones have the same words. */
  question: (turn: Row) => string
  answers: (turn: Row) => string[]
  classes?: string[]
  stop?: string[]
}

const input = (turn: Row) => `\n\n${turn.string('input')}`
const answers = (turn: Row) => turn.answers('answer')
const plain = (metric: Metric, maxTokens: number, before = ''): Subtask => {
  return { metric, maxTokens, before, question: input, answers }
}

const values = plain('contains', 150, 'Below is a JSON object. You will be asked for the values of keys.\n\n')

const SUBTASKS: Record<string, Subtask> = {
  scbench_kv: values,
  scbench_kv_hard: values,
  scbench_prefix_suffix: plain('contains', 150),
  scbench_hashhop: plain('contains', 150),
  scbench_passkey: plain(
    'contains',
    15,
    'Something important is hidden in the irrelevant text below. Remember it: you will be asked for it.\n\n',
  ),
  scbench_choice_eng: {
    metric: 'classification',
    classes: LETTERS,
    maxTokens: 40,
    before: 'Read the book below and answer the questions after it.\n\n',
    question: (turn) => `\n\nQuestion: ${turn.string('input')}\n${options(turn)}\n\nThe letter of the right answer is`,
    answers: (turn) => [rightLetter(turn)],
    stop: ['\n'],
  },
  scbench_qa_eng: {
    metric: 'containsAny',
    maxTokens: 40,
    before: 'Read the book below and answer the questions after it very briefly.\n\n',
    question: (turn) => `\n\nQuestion: ${turn.string('input')}\nAnswer:`,
    answers,
  },
  scbench_qa_chn: {
    metric: 'f1',
    maxTokens: 40,
    before: '请阅读下面的书，然后回答问题。\n\n',
    question: (turn) => `\n\n问题：${turn.string('input')}\n答案：`,
    answers,
  },
  scbench_mf: {
    ...plain('exactMatch', 8, 'Below is a list of numbers. You will be asked about it.\n\n'),
    stop: ['\n', '. ', ', '],
  },
  scbench_summary: plain('rougeL', 200),
  scbench_vt: plain('containsAll', 30),
  scbench_many_shot: plain('containsAny', 10),
}

/**
 * The multi-turn mode of SCBench (arXiv 2412.10319, github.com/microsoft/MInference/tree/main/scbench), by the names of its files: all
 * questions of a row are turns of one item. `scbench_repoqa` compares whole functions, and `scbench_summary_with_needles` and
 * `scbench_repoqa_and_kv` have another metric in each turn: they are not among them.
 */
export function scBench(path: string, text: string): Item[] {
  const [name, { before, question, answers, ...rest }] = subtask('SCBench', path, SUBTASKS)
  return jsonLines(path, text).map((row, i) => {
    const turns = row.rows('multi_turns').map((turn): Turn => ({ question: question(turn), answers: answers(turn) }))
    if (turns.length === 0) throw row.refuse('"multi_turns" is empty')
    const context = before + row.string(row.has('context') ? 'context' : 'input')
    return { id: String(i), task: `scbench/${name.replace('scbench_', '')}`, context, turns, ...rest }
  })
}
