import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { HeadwiseError } from '../../ts/errors.js'
import { DATASETS } from '../../ts/eval/datasets/index.js'
import { infiniteBench } from '../../ts/eval/datasets/infinitebench.js'
import { longBench } from '../../ts/eval/datasets/longbench.js'
import { looGle } from '../../ts/eval/datasets/loogle.js'
import { prompts, promptsFile } from '../../ts/eval/datasets/prompts.js'
import { pythonLiteral } from '../../ts/eval/datasets/python-literal.js'
import { scBench } from '../../ts/eval/datasets/scbench.js'
import { zeroScrolls } from '../../ts/eval/datasets/zeroscrolls.js'
import type { Item } from '../../ts/eval/item.js'
import { score } from '../../ts/eval/metrics.js'

const folder = mkdtempSync(join(tmpdir(), 'headwise-datasets-'))
test.after.always(() => rmSync(folder, { recursive: true, force: true }))

const lines = (...rows: unknown[]) => rows.map((row) => JSON.stringify(row)).join('\n')
const first = (items: Item[]) => items[0] as Item
const turn = (item: Item, i = 0) => item.turns[i] as Item['turns'][number]

/** What an answer is worth for an item's first question. */
const worth = (item: Item, text: string) => score(item.metric ?? 'contains', text, turn(item).answers, item.classes)

test('prompts: the fields of a line, and what they are without it', (t) => {
  const text = `\n${lines({ context: 'c', question: 'q', answers: ['a', 'b'] })}\n\n${lines(
    {
      id: 'x',
      task: 'mine',
      context: 'c',
      turns: [{ question: 'q', answers: ['a'] }],
      metric: 'f1',
      maxTokens: 5,
      stop: ['.'],
    },
    { id: 'y', context: 'c', continuation: 'on' },
  )}\n`
  t.deepEqual(prompts('p', text), [
    { id: '2', task: 'prompts', context: 'c', turns: [{ question: 'q', answers: ['a', 'b'] }] },
    {
      id: 'x',
      task: 'mine',
      context: 'c',
      turns: [{ question: 'q', answers: ['a'] }],
      metric: 'f1',
      maxTokens: 5,
      stop: ['.'],
    },
    { id: 'y', task: 'prompts', context: 'c', turns: [], continuation: 'on' },
  ])
})

test('prompts: numbers count as texts, one answer as a list, and other fields do not matter', (t) => {
  const row = { id: 7, context: 'c', question: 'q', answers: 42, depth: 0.5 }
  t.deepEqual(prompts('p', JSON.stringify(row)), [
    { id: '7', task: 'prompts', context: 'c', turns: [{ question: 'q', answers: ['42'] }] },
  ])
})

test('prompts: a bad line is refused with its place and what is wrong', (t) => {
  const good = { context: 'c', question: 'q', answers: ['a'] }
  const cases: [unknown, RegExp][] = [
    [[], /p:2: expected an object/],
    [null, /p:2: expected an object/],
    [{ ...good, context: 1 }, /p:2: "context" is a number/],
    [{ ...good, context: undefined }, /p:2: "context" is missing/],
    [{ ...good, answers: ['a', {}] }, /p:2: "answers" holds an object/],
    [{ ...good, answers: [] }, /p:2: "answers" is empty/],
    [{ ...good, answers: [''] }, /p:2: "answers" holds an empty/],
    [{ ...good, id: [3] }, /p:2: "id" is a list/],
    [{ ...good, metric: 'toString' }, /p:2: "metric" is "toString", expected one of contains/],
    [{ ...good, metric: 'classification' }, /p:2: classification needs "classes"/],
    [{ ...good, maxTokens: 0 }, /p:2: "maxTokens" is 0/],
    [{ ...good, maxTokens: 1.5 }, /p:2: "maxTokens" is a number, expected a whole/],
    [{ ...good, stop: '\n' }, /p:2: "stop" is a string/],
    [{ ...good, continuation: 'x' }, /p:2: has question and continuation/],
    [{ context: 'c' }, /p:2: has nothing to ask/],
    [{ context: 'c', continuation: 'x', answers: ['a'] }, /p:2: "answers" without "question"/],
    [{ context: 'c', turns: [] }, /p:2: "turns" is empty/],
    [{ context: 'c', turns: [{ question: 'q' }] }, /p:2: turns\[0\]: "answers" holds missing/],
  ]
  for (const [row, message] of cases) {
    const error = t.throws(() => prompts('p', `\n${JSON.stringify(row)}`), { instanceOf: HeadwiseError, message })
    t.is(error?.code, 'InvalidArgument')
  }
  t.throws(() => prompts('p', '\n{"context": '), { instanceOf: HeadwiseError, message: /p:2: not JSON/ })
  t.throws(() => prompts('p', '['.repeat(200_000)), { instanceOf: HeadwiseError, message: /p:1: / })
})

test('prompts: an id stands in a task once', (t) => {
  const row = { id: '1', context: 'c', question: 'q', answers: ['a'] }
  t.throws(() => prompts('p', lines(row, { ...row, task: 'other' }, row)), {
    message: /p:3: .*"prompts".*"1".* at p:1/,
  })
  // The number of the third line is taken by the id of the first.
  t.throws(() => prompts('p', lines({ ...row, id: '2' }, { ...row, id: undefined })), { message: /p:2/ })
})

test('files that cannot be read are errors with their name', (t) => {
  t.throws(() => promptsFile(join(folder, 'none.jsonl')), { instanceOf: HeadwiseError, message: /none\.jsonl.*ENOENT/ })
  const path = join(folder, 'bytes.jsonl')
  writeFileSync(path, Buffer.from([0x7b, 0xff]))
  t.throws(() => promptsFile(path), { instanceOf: HeadwiseError, message: /bytes\.jsonl: not a UTF-8 text/ })
  for (const [name, load] of Object.entries(DATASETS)) {
    t.throws(() => load(join(folder, 'toString.jsonl')), { instanceOf: HeadwiseError }, name)
    writeFileSync(join(folder, 'constructor.jsonl'), '{}')
    t.throws(() => load(join(folder, 'constructor.jsonl')), { instanceOf: HeadwiseError, message: /subtask/ }, name)
  }
})

const LONGBENCH =
  'narrativeqa qasper multifieldqa_en multifieldqa_zh hotpotqa 2wikimqa musique dureader gov_report qmsum multi_news vcsum trec triviaqa samsum lsht passage_count passage_retrieval_en passage_retrieval_zh lcc repobench-p'

test('longbench: all subtasks, context first and question last', (t) => {
  t.is(LONGBENCH.split(' ').length, 21)
  for (const name of LONGBENCH.split(' ')) {
    const row = {
      input: 'INPUT',
      context: 'CONTEXT $& $1',
      answers: ['Paragraph 7'],
      all_classes: ['Paragraph 7', 'x'],
    }
    const item = first(longBench(`/data/${name}.jsonl`, lines(row)))
    t.is(item.task, `longbench/${name}`)
    t.true(item.context.endsWith('CONTEXT $& $1'), name)
    t.false(item.context.includes('INPUT'), name)
    const asks = !['gov_report', 'multi_news', 'vcsum', 'passage_count'].includes(name)
    t.is(turn(item).question.includes('INPUT'), asks, name)
    t.is(worth(item, 'Paragraph 7'), 1, name)
    t.true(worth(item, 'wrong') < 0.5, name)
  }
  const item = first(
    longBench('trec_e.jsonl', lines({ input: 'i', context: 'c', answers: ['a'], all_classes: ['a', 'b'], _id: 'z' })),
  )
  t.deepEqual(
    [item.task, item.metric, item.classes, item.maxTokens],
    ['longbench/trec_e', 'classification', ['a', 'b'], 64],
  )
  t.throws(() => longBench('trec.jsonl', lines({ input: 'i', context: 'c', answers: ['a'], all_classes: null })), {
    message: /trec\.jsonl:1: "all_classes" is null/,
  })
})

test('infinitebench: answers in all the ways that its files write them', (t) => {
  const load = (name: string, row: object) =>
    first(infiniteBench(`${name}.jsonl`, lines({ context: 'CONTEXT', input: 'INPUT', ...row })))
  t.is(worth(load('passkey', { answer: ['12345'] }), ' 12345. Remember'), 1)
  t.is(worth(load('number_string', { answer: '11233' }), ' 11233'), 1)
  t.is(worth(load('kv_retrieval', { answer: ['a-b'] }), '"a-b"'), 1)
  t.is(worth(load('longbook_qa_eng', { answer: ['x', 'the cat'] }), 'cat'), 1)
  t.is(worth(load('longbook_sum_eng', { answer: ['a b c'] }), 'a b c'), 1)
  t.is(worth(load('longdialogue_qa_eng', { answer: ['DOE'] }), ' Doe\n'), 1)
  t.is(worth(load('math_find', { answer: [7] }), ' 7'), 1)
  t.is(worth(load('math_find', { answer: [7] }), ' 17'), 0)
  const run = load('code_run', { answer: [-3], input: 'Please give me the value of func_12(-5).' })
  t.true(turn(run).question.endsWith('The value of func_12(-5) is'))
  t.is(worth(run, ' -3'), 1)
  const options = ['w', 'x', 'y', 'z']
  for (const [name, answer] of [
    ['longbook_choice_eng', ['y']],
    ['code_debug', ['y', 'C']],
    ['code_debug', 'y'],
  ] as const) {
    const item = load(name, { answer, options })
    t.deepEqual(turn(item).answers, ['C'])
    t.is(worth(item, ' C.'), 1)
    t.is(worth(item, ' A.'), 0)
    t.true(turn(item).question.includes('B. x\nC. y\n'))
  }
  t.throws(() => load('code_debug', { answer: 'q', options }), { message: /code_debug\.jsonl:1: "answer" is none of/ })
  t.throws(() => load('code_debug', { answer: 'w', options: ['w'] }), { message: /"options" has 1 entries/ })
  t.throws(() => load('code_run', { answer: 1 }), { message: /holds no call/ })
  t.throws(() => load('passkey', { answer: [{}] }), { message: /"answer" holds an object/ })
  t.throws(() => load('math_calc', { answer: [1] }), { message: /subtask of InfiniteBench/ })
})

test('loogle: questions share the context, in each layout', (t) => {
  const qa = `[{'Q': 'Who\\'s "he"?', 'A': "it's", 'S': ['a\\nb', "c"]}, {'S': [], 'Q': 'Q2', 'A': 'A2', 'type': None}]`
  const items = looGle('shortdep_qa.jsonl', lines({ input: 'TEXT', title: 't', qa_pairs: qa, output: 'none' }))
  t.deepEqual(
    items.map((item) => [item.id, turn(item).question, turn(item).answers]),
    [
      ['0-0', '\nQuestion: Who\'s "he"?\nAnswer:', ["it's"]],
      ['0-1', '\nQuestion: Q2\nAnswer:', ['A2']],
    ],
  )
  t.is(items[0]?.context, items[1]?.context)
  t.is(looGle('longdep_qa.jsonl', lines({ input: 'T', qa_pairs: [{ Q: 'q', A: 'a' }] })).length, 1)
  const [flat] = looGle('longdep_qa.jsonl', lines({ context: 'T', question: 'q', answer: 'a' }))
  t.deepEqual(flat?.turns, [{ question: '\nQuestion: q\nAnswer:', answers: ['a'] }])
  const [paper] = looGle('longdep_summarization.jsonl', lines({ input: 'T', qa_pairs: 'none', output: 'SUM' }))
  t.deepEqual(paper?.turns[0]?.answers, ['SUM'])
  t.throws(() => looGle('longdep_qa.jsonl', lines({ input: 'T', qa_pairs: "[{'Q': __import__('os')}]" })), {
    message: /longdep_qa\.jsonl:1: "qa_pairs" is no list in Python: /,
  })
})

test('python literals: values, escapes, and what is none', (t) => {
  const text = String.raw`[{'a': "it's", "b": [1, -2.5, None, True, False,], 'c': 'x\'y\\n\n\x41\u00e9\U0001F600\d'}, []]`
  t.deepEqual(pythonLiteral(text), [{ a: "it's", b: [1, -2.5, null, true, false], c: "x'y\\n\nAé😀\\d" }, []])
  t.deepEqual(Object.keys(pythonLiteral("{'__proto__': 1}") as object), ['__proto__'])
  for (const bad of ['', '[', "'a", "{'a' 1}", '{1: 2}', 'x', '[1 2]', '[] []', "'\\", '['.repeat(1e5)]) {
    t.throws(() => pythonLiteral(bad), { instanceOf: SyntaxError }, bad.slice(0, 20))
  }
})

test('zeroscrolls: the prompt is cut behind the document, in code points, and answers are gathered', (t) => {
  const input = 'Instruction 😀\n\nDocument 😀 text\n\nQuestion:\nwho?\n\nAnswer:'
  const end = [...'Instruction 😀\n\nDocument 😀 text'].length
  const row = { id: 'i', pid: 'i_0', input, output: 'first', document_end_index: end }
  const items = zeroScrolls('/z/qasper/validation.jsonl', lines(row, { ...row, pid: 'i_1', output: 'second' }))
  t.deepEqual(items, [
    {
      id: 'i',
      task: 'zeroscrolls/qasper',
      context: 'Instruction 😀\n\nDocument 😀 text',
      turns: [{ question: '\n\nQuestion:\nwho?\n\nAnswer:', answers: ['first', 'second'] }],
      metric: 'f1',
      maxTokens: 128,
    },
  ])
  const quality = first(zeroScrolls('quality.jsonl', lines({ ...row, output: '(B) Because.' })))
  t.is(worth(quality, ' (B)'), 1)
  t.throws(() => zeroScrolls('quality.jsonl', lines({ ...row, output: 'Because.' })), {
    message: /letter of an option/,
  })
  t.throws(() => zeroScrolls('qasper.jsonl', lines({ ...row, document_end_index: 1000 })), {
    message: /behind the end/,
  })
  t.throws(() => zeroScrolls('qasper.jsonl', lines({ ...row, document_end_index: -1 })), { message: /whole number/ })
  t.throws(() => zeroScrolls('space_digest.jsonl', ''), { message: /subtask of ZeroSCROLLS/ })
})

test('scbench: the questions of a row are turns of one item', (t) => {
  const turns = [
    { input: 'first?', answer: 'a' },
    { input: 'second?', answer: ['b', 'c'] },
  ]
  for (const field of ['context', 'input']) {
    const item = first(scBench('scbench_kv.jsonl', lines({ id: 0, [field]: 'TEXT', multi_turns: turns })))
    t.true(item.context.endsWith('TEXT'))
    t.is(item.task, 'scbench/kv')
    t.deepEqual(item.turns, [
      { question: '\n\nfirst?', answers: ['a'] },
      { question: '\n\nsecond?', answers: ['b', 'c'] },
    ])
  }
  const choice = { input: 'q', options: ['w', 'x', 'y', 'z'], answer: 'z' }
  const item = first(scBench('scbench_choice_eng.jsonl', lines({ context: 'T', multi_turns: [choice] })))
  t.deepEqual([turn(item).answers, item.classes], [['D'], ['A', 'B', 'C', 'D']])
  t.throws(() => scBench('scbench_kv.jsonl', lines({ context: 'T', multi_turns: [] })), {
    message: /:1: "multi_turns" is empty/,
  })
  t.throws(() => scBench('scbench_kv.jsonl', lines({ context: 'T', multi_turns: [{ input: 1 }] })), {
    message: /scbench_kv\.jsonl:1: multi_turns\[0\]: "input" is a number/,
  })
  t.throws(() => scBench('scbench_repoqa.jsonl', ''), { message: /subtask of SCBench/ })
})
