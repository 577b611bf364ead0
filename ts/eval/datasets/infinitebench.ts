import type { Item, Metric } from '../item.js'
import { LETTERS, options, rightLetter } from './choices.js'
import { jsonLines, type Row } from './row.js'
import { subtask } from './subtask.js'

interface Subtask {
  metric: Metric
  maxTokens: number
  before: (row: Row) => string
  after: (row: Row) => string
  answers: (row: Row) => string[]
  classes?: string[]
  stop?: string[]
}

const answers = (row: Row) => row.answers('answer')
const hidden = () =>
  'Something important is hidden in the irrelevant text below. Remember it: you will be asked for it.\n\n'
const question = (before: string, tail: string): Subtask['after'] => {
  return (row) => `\n\n${before}${row.string('input')}${tail}`
}

/** The answer begins with its letter; the official evaluation looks for that first, too. */
const choice: Pick<Subtask, 'metric' | 'classes' | 'stop' | 'answers'> = {
  metric: 'classification',
  classes: LETTERS,
  stop: ['\n'],
  answers: (row: Row) => [rightLetter(row)],
}

/** One number and the end of the sentence. The official evaluation takes the first or last number of the answer. */
const number: Pick<Subtask, 'metric' | 'stop' | 'answers'> = { metric: 'exactMatch', stop: ['\n', '. ', ', '], answers }

const SUBTASKS: Record<string, Subtask> = {
  passkey: { metric: 'contains', maxTokens: 6, before: hidden, after: question('', '\n\nThe pass key is'), answers },
  number_string: {
    metric: 'contains',
    maxTokens: 12,
    before: hidden,
    after: question('', '\n\nThe sequence of digits is'),
    answers,
  },
  kv_retrieval: {
    metric: 'contains',
    maxTokens: 50,
    before: () => 'Below is a JSON object. You will be asked for the value of a key.\n\n',
    after: question('', ''),
    answers,
  },
  longbook_qa_eng: {
    metric: 'f1',
    maxTokens: 40,
    before: () => 'Read the book below and answer the question after it very briefly.\n\n',
    after: question('Question: ', '\nAnswer:'),
    answers,
  },
  longbook_qa_chn: {
    metric: 'f1',
    maxTokens: 40,
    before: () => '请阅读下面的书，然后回答问题。\n\n',
    after: question('问题：', '\n答案：'),
    answers,
  },
  longbook_choice_eng: {
    ...choice,
    maxTokens: 40,
    before: () => 'Read the book below and answer the question after it.\n\n',
    after: (row) => `\n\nQuestion: ${row.string('input')}\n${options(row)}\n\nThe letter of the right answer is`,
  },
  longbook_sum_eng: {
    metric: 'rougeL',
    maxTokens: 1200,
    before: () => 'Summarise the book below.\n\n',
    after: () => '\n\nSummary:',
    answers,
  },
  longdialogue_qa_eng: {
    metric: 'containsAny',
    maxTokens: 40,
    before: () =>
      'Below is the script of a dialogue in which the name of one character has been replaced by "$$MASK$$" in one place. Find out who it is.\n\n',
    after: () => '\n\nThe name that $$MASK$$ stands for is most likely',
    stop: ['\n'],
    answers,
  },
  math_find: {
    ...number,
    maxTokens: 8,
    before: () => 'Below is a list of numbers. You will be asked about it.\n\n',
    after: question('', ''),
  },
  code_run: {
    ...number,
    maxTokens: 8,
    before: () => 'Below are Python functions that call one another.\n\n',
    after: (row) => {
      const call = /func_\d+\(-?\d+\)/.exec(row.string('input'))?.[0]
      if (call === undefined) throw row.refuse('"input" holds no call such as func_1(2)')
      return `\n\nWork out the exact value of ${call}. The value of ${call} is`
    },
  },
  code_debug: {
    ...choice,
    maxTokens: 5,
    before: () => 'Exactly one function in the Python code below has a deliberate error that makes it crash.\n\n',
    after: (row) => `\n\nWhich function is it?\n${options(row)}\n\nThe letter of the right option is`,
  },
}

/**
 * InfiniteBench (arXiv 2402.13718, github.com/OpenBMB/InfiniteBench), by the names of its files; `math_calc`, whose 30 000 tokens of
 * intermediate results have a metric of their own, is not among them.
 */
export function infiniteBench(path: string, text: string): Item[] {
  const [name, { before, after, answers, ...rest }] = subtask('InfiniteBench', path, SUBTASKS)
  return jsonLines(path, text).map((row, i) => ({
    id: String(i),
    task: `infinitebench/${name}`,
    context: before(row) + row.string('context'),
    turns: [{ question: after(row), answers: answers(row) }],
    ...rest,
  }))
}
