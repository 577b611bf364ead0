import type { Item, Metric } from '../item.js'
import { jsonLines } from './row.js'
import { subtask } from './subtask.js'

interface Subtask {
  metric: Metric
  maxTokens: number
  /** What stands before the text, and after it. */
  before: string
  after: (input: string) => string
  stop?: string[]
}

const CONCISE = 'Answer as briefly as you can, with a single phrase where possible. Do not explain.'
const ONLY = 'Give only the answer, no other words.'

/** The tasks whose official evaluation reads the first line only. */
const LINE = { stop: ['\n'] }

const passages: Subtask = {
  metric: 'f1',
  maxTokens: 32,
  before: `Answer the question from the passages below. ${ONLY}\n\n`,
  after: (input) => `\n\nAnswer the question from the passages above. ${ONLY}\n\nQuestion: ${input}\nAnswer:`,
}

const summary = (before: string, after: string): Subtask => ({
  metric: 'rougeL',
  maxTokens: 512,
  before,
  after: () => after,
})

/** Metrics and lengths are LongBench's; the wording is close to its own but shorter. */
const SUBTASKS: Record<string, Subtask> = {
  narrativeqa: {
    metric: 'f1',
    maxTokens: 128,
    before: `Below is a story, a novel or a film script, and then a question. ${CONCISE}\n\nStory: `,
    after: (input) => `\n\nNow answer the question from the story. ${CONCISE}\n\nQuestion: ${input}\n\nAnswer:`,
  },
  qasper: {
    metric: 'f1',
    maxTokens: 128,
    before: `Below is a scientific article, and then a question. ${CONCISE}\n\nArticle: `,
    after: (input) =>
      `\n\nAnswer the question from the article. ${CONCISE} Where the article does not hold the answer, write "unanswerable"; a yes/no question is answered "yes", "no" or "unanswerable".\n\nQuestion: ${input}\n\nAnswer:`,
  },
  multifieldqa_en: {
    metric: 'f1',
    maxTokens: 64,
    before: 'Read the text below and answer briefly.\n\n',
    after: (input) => `\n\nNow answer the question from the text above. ${ONLY}\n\nQuestion: ${input}\nAnswer:`,
  },
  multifieldqa_zh: {
    metric: 'f1',
    maxTokens: 64,
    before: '请阅读下面的文字，并用中文简短作答。\n\n',
    after: (input) => `\n\n请根据上文回答问题，只给出答案，不要写其他内容。\n\n问题：${input}\n回答：`,
  },
  hotpotqa: passages,
  '2wikimqa': passages,
  musique: passages,
  dureader: {
    metric: 'rougeL',
    maxTokens: 128,
    before: '请根据下面的文章回答问题。\n\n文章：',
    after: (input) => `\n\n请根据上面的文章回答问题。\n\n问题：${input}\n回答：`,
  },
  gov_report: summary(
    'Below is a report of a government agency. Summarise it on one page.\n\nReport:\n',
    '\n\nNow summarise the report on one page.\n\nSummary:',
  ),
  qmsum: {
    metric: 'rougeL',
    maxTokens: 512,
    before:
      'Below is the transcript of a meeting, and then a query. Answer it in one or more sentences.\n\nTranscript:\n',
    after: (input) =>
      `\n\nNow answer the query from the transcript in one or more sentences.\n\nQuery: ${input}\nAnswer:`,
  },
  multi_news: summary(
    'Below are several news articles. Summarise all of them on one page.\n\nNews:\n',
    '\n\nNow summarise all the news on one page.\n\nSummary:',
  ),
  vcsum: summary('下面是一段会议记录，请阅读后总结会议内容。\n会议记录：\n', '\n\n会议总结：'),
  trec: {
    metric: 'classification',
    maxTokens: 64,
    before: 'Tell the type of the last question. The questions before it are examples.\n\n',
    after: (input) => `\n${input}`,
    ...LINE,
  },
  triviaqa: {
    metric: 'f1',
    maxTokens: 32,
    before: `Answer the question from the passage. ${ONLY} Some examples come first.\n\n`,
    after: (input) => `\n\n${input}`,
    ...LINE,
  },
  samsum: {
    metric: 'rougeL',
    maxTokens: 128,
    before: 'Summarise the dialogue in a few short sentences. Some examples come first.\n\n',
    after: (input) => `\n\n${input}`,
    ...LINE,
  },
  lsht: {
    metric: 'classification',
    maxTokens: 64,
    before: '请判断最后一条新闻的类别，前面是一些例子。\n\n',
    after: (input) => `\n${input}`,
    ...LINE,
  },
  passage_count: {
    metric: 'count',
    maxTokens: 32,
    before:
      'Below are paragraphs of Wikipedia, some of which may stand there more than once. Find out how many different ones there are.\n\n',
    after: () =>
      '\n\nHow many different paragraphs are there? Give only the number, such as 1, 2 or 3.\n\nThe number of different paragraphs is:',
  },
  passage_retrieval_en: {
    metric: 'retrieval',
    maxTokens: 32,
    before:
      'Below are 30 paragraphs of Wikipedia, and then an abstract. Find the paragraph that the abstract is of.\n\n',
    after: (input) =>
      `\n\nThis is the abstract.\n\n${input}\n\nWhich paragraph is it of? Answer in the form "Paragraph 1", "Paragraph 2" and so on.\n\nThe answer is:`,
  },
  passage_retrieval_zh: {
    metric: 'retrieval',
    maxTokens: 32,
    before: '下面是若干段落以及其中一段的摘要，请找出摘要所属的段落。\n\n',
    after: (input) => `\n\n摘要如下。\n\n${input}\n\n摘要属于哪一段？请按“段落1”“段落2”的格式作答。\n\n答案是：`,
  },
  lcc: {
    metric: 'editSimilarity',
    maxTokens: 64,
    before: 'Complete the code below.\n',
    after: (input) => `${input}Next line of code:\n`,
  },
  'repobench-p': {
    metric: 'editSimilarity',
    maxTokens: 64,
    before: 'Complete the code below.\n',
    after: (input) => `${input}Next line of code:\n`,
  },
}

/** LongBench and LongBench-E (arXiv 2308.14508, github.com/THUDM/LongBench): all 21 subtasks, by the names of their files. */
export function longBench(path: string, text: string): Item[] {
  const [name, { before, after, ...rest }] = subtask('LongBench', path, SUBTASKS)
  return jsonLines(path, text).map((row, i): Item => {
    const turns = [{ question: after(row.string('input')), answers: row.answers('answers') }]
    const item = { id: String(i), task: `longbench/${name}`, context: before + row.string('context'), turns, ...rest }
    return rest.metric === 'classification' ? { ...item, classes: row.strings('all_classes') } : item
  })
}
