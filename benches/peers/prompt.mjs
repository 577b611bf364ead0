/** Varied prose without an end: sentences of our own whose parts are drawn by a seeded generator. */
const SUBJECTS = [
  'The ferryman',
  'A retired surveyor',
  'My neighbour',
  'The night nurse',
  'An apprentice baker',
  'The archivist',
  'A child with a red kite',
  'The head gardener',
  'Our new engineer',
  'The piano tuner',
  'A student from Lund',
  'The judge',
]
const VERBS = [
  'counted',
  'repaired',
  'described',
  'forgot',
  'photographed',
  'carried away',
  'weighed',
  'painted',
  'sold',
  'measured',
  'hid',
  'returned',
]
const OBJECTS = [
  'the brass clock',
  'eleven crates of lemons',
  'a map of the delta',
  'the broken pump',
  'two letters without a stamp',
  'the oldest tree in the park',
  'a box of piano strings',
  'the names on the bridge',
  'a jar of grey sand',
  'the spare keys',
]
const CIRCUMSTANCES = [
  'before the rain came',
  'in less than an hour',
  'while everybody was asleep',
  'at the edge of the market',
  'for the third time that week',
  'because nobody else would',
  'under a flickering lamp',
  'and then went home on foot',
  'as the rules require',
  'with great care',
]
const REMARKS = [
  'It was not what the letter had promised.',
  'Nobody asked why.',
  'The price was {n} crowns.',
  'Later there was an argument about it.',
  'The record says {n}, but the record is wrong.',
  'That winter was mild.',
  'One could hear the river from there.',
  'The list had {n} entries and no title.',
]

/** Mulberry32: 32 bits of state are plenty for choosing words. */
function generator(seed) {
  let state = seed >>> 0
  return (limit) => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) % limit
  }
}

/** `words` words or a little more; the same seed gives the same text. */
export function prose(words, seed = 1) {
  const draw = generator(seed)
  const pick = (list) => list[draw(list.length)]
  let text = ''
  for (let count = 0; count < words; count = text.split(' ').length) {
    const remark = pick(REMARKS).replace('{n}', String(10 + draw(990)))
    text += `${pick(SUBJECTS)} ${pick(VERBS)} ${pick(OBJECTS)} ${pick(CIRCUMSTANCES)}. ${remark} `
  }
  return text
}
