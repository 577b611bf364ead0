import { HeadwiseError } from '../../../errors.js'
import { parsed, Row, readText } from '../../datasets/row.js'
import { sample, shuffled } from '../draw.js'
import { type Draft, generate, itemRandom, type Next, type Task } from '../task.js'

interface Question {
  text: string
  answers: string[]
  /** The documents that answer it, by index. */
  documents: number[]
  /** Distractors that come before all others: the rest of the article. */
  near: number[]
}

interface Corpus {
  documents: string[]
  questions: Question[]
}

/** Documents by text, each once. */
class Documents {
  readonly #indices = new Map<string, number>()

  index(text: string): number {
    const known = this.#indices.get(text)
    if (known !== undefined) return known
    this.#indices.set(text, this.#indices.size)
    return this.#indices.size - 1
  }

  all(): string[] {
    return [...this.#indices.keys()]
  }
}

/** SQuAD 1.1 and 2.0 (arXiv 1806.03822); questions without an answer are left out. */
function squad(path: string): Corpus {
  const documents = new Documents()
  const questions = new Row(path, parsed(path, readText(path))).rows('data').flatMap((article) => {
    const paragraphs = article
      .rows('paragraphs')
      .map((row) => ({ row, document: documents.index(row.string('context')) }))
    const sameArticle = [...new Set(paragraphs.map(({ document }) => document))]
    return paragraphs.flatMap(({ row, document }) =>
      row.rows('qas').flatMap((qa): Question[] => {
        if (qa.value('is_impossible') === true) return []
        const answers = qa.rows('answers').map((answer) => answer.string('text'))
        if (answers.length === 0) throw qa.refuse('"answers" is empty')
        const near = sameArticle.filter((other) => other !== document)
        return [{ text: qa.string('question'), answers, documents: [document], near }]
      }),
    )
  })
  return { documents: documents.all(), questions }
}

/** HotpotQA in the distractor setting (arXiv 1809.09600): each question brings ten paragraphs of its own. */
function hotpot(path: string): Corpus {
  const documents = new Documents()
  const root = new Row(path, { questions: parsed(path, readText(path)) })
  const questions = root.rows('questions').map((row): Question => {
    const own = row.list('context').map((entry, i) => {
      const [title, sentences] = Array.isArray(entry) ? entry : []
      if (typeof title !== 'string' || !Array.isArray(sentences) || sentences.some((one) => typeof one !== 'string')) {
        throw row.refuse(`"context[${i}]" is not [title, [sentence, …]]`)
      }
      return documents.index(`${title}\n${sentences.join('')}`)
    })
    return { text: row.string('question'), answers: [row.string('answer')], documents: [...new Set(own)], near: [] }
  })
  return { documents: documents.all(), questions }
}

function draft(
  size: number,
  next: Next,
  { documents, questions }: Corpus,
  order: readonly number[],
  index: number,
): Draft {
  const question = questions[order[index] as number] as Question
  const { near } = question
  const far = () => {
    const used = new Set([...question.documents, ...near])
    return documents.map((_, i) => i).filter((i) => !used.has(i))
  }
  const others = size <= near.length ? sample(near, size, next) : [...near, ...sample(far(), size - near.length, next)]
  const shown = shuffled([...question.documents, ...others], next).map(
    (i, at) => `Document ${at + 1}:\n${documents[i]}`,
  )
  const instruction = 'Answer the question from the documents. Give only the answer, no other words.'
  return {
    context: `${instruction}\n\n${shown.join('\n\n')}`,
    question: `\n\n${instruction}\n\nQuestion: ${question.text} Answer:`,
    answers: question.answers,
  }
}

/** RULER's question answering: the right documents among others of the same file, as many as fit (arXiv 2404.06654, section 3). */
function qaTask(name: string, summary: string, format: string, load: (path: string) => Corpus): Task {
  return {
    name,
    summary,
    generate: (options) => {
      const { data, items } = options
      if (data === undefined)
        throw new HeadwiseError('InvalidArgument', `${name} needs --data: ${format}`, { task: name })
      const corpus = load(data)
      const available = corpus.questions.length
      if (items > available) {
        const message = `${data}: ${available} questions with an answer, ${items} asked for`
        throw new HeadwiseError('InvalidArgument', message, { path: data, available, items })
      }
      const order = shuffled(
        corpus.questions.map((_, i) => i),
        itemRandom(name, options),
      )
      // How many distractors there are besides the documents of a question.
      const own = corpus.questions.reduce((most, { documents }) => Math.max(most, documents.length), 0)
      const most = corpus.documents.length - own
      return generate(
        {
          name,
          metric: 'containsAny',
          maxTokens: 32,
          least: 0,
          most,
          draft: (size, next, index) => draft(size, next, corpus, order, index),
        },
        options,
      )
    },
  }
}

export const qa1 = qaTask('qa_1', 'questions about documents of SQuAD', 'a JSON file of SQuAD 1.1 or 2.0', squad)
export const qa2 = qaTask(
  'qa_2',
  'questions about documents of HotpotQA',
  'a JSON file of HotpotQA (distractor)',
  hotpot,
)
