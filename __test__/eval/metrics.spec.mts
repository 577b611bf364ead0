import test from 'ava'
import { score } from '../../ts/eval/metrics.js'

/** Near enough for a fraction. */
const near = (actual: number, expected: number) => Math.abs(actual - expected) < 1e-12

test('contains looks for any answer in its own case', (t) => {
  t.is(score('contains', ' 81908.', ['81908']), 1)
  t.is(score('contains', 'red Fox', ['fox', 'blue']), 0)
  t.is(score('contains', 'red fox', ['blue', 'fox']), 1)
  t.is(score('contains', 'red fox', ['']), 0, 'an empty answer is no answer')
  t.is(score('contains', 'red fox', []), 0)
})

test('containsAny and containsAll ignore case', (t) => {
  t.is(score('containsAny', 'It was PARIS.', ['London', 'paris']), 1)
  t.is(score('containsAny', 'It was Rome.', ['London', 'paris']), 0)
  t.is(score('containsAll', 'abc, DEF and ghi', ['ABC', 'def', 'xyz', 'ghi']), 0.75)
})

test('f1 counts words as SQuAD does', (t) => {
  // {cat, sat} of {cat, sat, on, mat}: precision 1, recall 1/2.
  t.true(near(score('f1', 'The cat sat!', ['a cat sat on the mat']), 2 / 3))
  // A word counts as often as both have it: "no" once, so precision 1/3, recall 1.
  t.true(near(score('f1', 'no no no', ['no']), 0.5))
  t.is(score('f1', 'U.S.', ['us']), 1)
  t.is(score('f1', 'x', ['y', 'x']), 1, 'the best of the answers')
  t.is(score('f1', '', ['y']), 0)
  t.is(score('f1', 'voilà', ['voilà']), 1, 'a letter of a word is no article')
})

test('f1 segments Chinese', (t) => {
  t.is(score('f1', '北京。', ['北京']), 1)
  // 北京 is one of the two words of the text and the only one of the answer.
  t.true(near(score('f1', '北京大学', ['北京']), 2 / 3))
})

test('rougeL is the summary level of the rouge package', (t) => {
  t.is(score('rougeL', 'a b c', ['a b c']), 1)
  // LCS of "a b c d" and "a x c": {a, c}; 2 · 2 / (4 + 3).
  t.true(near(score('rougeL', 'a b c d', ['a x c']), 4 / 7))
  // The order matters: of "b a" and "a b" one word is common; 2 · 1 / (2 + 2).
  t.is(score('rougeL', 'b a', ['a b']), 0.5)
  // Lin 2004: reference w1..w5 against "w1 w2 w6 w7 w8" and "w1 w3 w8 w9 w5": the union is {w1 w2 w3 w5}; distinct words 5 and 8.
  t.true(near(score('rougeL', 'w1 w2 w6 w7 w8. w1 w3 w8 w9 w5.', ['w1 w2 w3 w4 w5']), 8 / 13))
  // Words count once: {a, b} of {a, b} and {a, b}.
  t.is(score('rougeL', 'a a b', ['a b b']), 1)
  t.is(score('rougeL', '. .', ['a']), 0)
})

test('exactMatch compares normalised texts', (t) => {
  t.is(score('exactMatch', ' The Eiffel-Tower.\n', ['eiffeltower']), 1)
  t.is(score('exactMatch', 'Eiffel Tower, Paris', ['Eiffel Tower']), 0)
  t.is(score('exactMatch', ' A', ['A']), 1)
  t.is(score('exactMatch', 'the', ['A']), 0)
})

test('editSimilarity is the indel ratio of the first line of code', (t) => {
  t.is(score('editSimilarity', '\n\n# comment\n```\nx = 1\ny = 2', ['x = 1']), 1)
  // "kitten" and "sitting": LCS "ittn" 4; 2 · 4 / 13 = 0.615…, to the percent. Levenshtein's ratio would be 1 - 3/7 = 0.57.
  t.is(score('editSimilarity', 'kitten', ['sitting']), 0.62)
  t.is(score('editSimilarity', '// only a comment', ['x']), 0)
})

test('classification drops parts of the right class and shares among several', (t) => {
  const classes = ['Human', 'Human group', 'Place', 'Number']
  t.is(score('classification', 'Human group', ['Human group'], classes), 1)
  t.is(score('classification', 'Human group', ['Human'], classes), 0.5)
  t.is(score('classification', 'Place or Number', ['Place'], classes), 0.5)
  t.is(score('classification', 'Number', ['Place'], classes), 0)
})

test('retrieval and count take the share of right numbers', (t) => {
  t.is(score('retrieval', 'Paragraph 7', ['Paragraph 7']), 1)
  t.is(score('retrieval', '7 or 17', ['Paragraph 7']), 0.5)
  t.is(score('retrieval', '段落3', ['段落3']), 1)
  t.is(score('retrieval', 'none', ['Paragraph 7']), 0)
  t.true(near(score('count', '5, 6 or 5', ['5']), 2 / 3))
})
