// Token ids of hard strings by llama.cpp, the oracle of our own tokenizer. Run in a folder where node-llama-cpp is installed:
//   npm install node-llama-cpp@3.22.1
//   node smollm2-tokens.mjs SmolLM2-135M-Instruct.Q4_1.gguf > smollm2-tokens.json
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const require = createRequire(process.cwd() + '/')
const { getLlama } = await import(pathToFileURL(require.resolve('node-llama-cpp')))

const texts = [
  '', ' ', '  ', '   ', 'a', ' a', 'a ', '  a  ', 'Hello world', 'Hello  world', 'Hello\nworld', 'Hello\n\n\nworld\n',
  // digits
  '0', '42', '007', '1234567890', 'pi is 3.14159', '81908.', '162-734-946-177', 'a1b2c3', '1 2  3   4', '２０２５', '½ ² ₃ ٣ Ⅷ', '½²₃٣Ⅷ', '१२३', '𝟙𝟚', '①②',
  'room ½ of ² in ₃', '1st 2nd 3rd', '0x1F', '1e-10', '12:30', '1,000,000.00',
  // whitespace
  '\t', '\t\t', '\n', '\n\n', '\r\n', '\r', ' \n ', '\t \t', '    indented', '\tindented', 'trailing   ', 'a\u00a0b', 'a\u2003b', '\u3000', 'a\u200bb', 'x\u2028y', 'a\u0085b',
  'a\n  b\n    c', ' \n\n  \n x', 'word     1', 'word\t1', ' '.repeat(17), ' '.repeat(64) + 'x', '\n'.repeat(9), '\u00a0\u00a0 \u2009x',
  // contractions, punctuation, quotes
  "I'm you're he'd we'll they've it's don't", "I'M YOU'RE", "'s 't 're", "l'été", '“quotes” ‘single’ — dash… ¿qué?', '!!!???...', '-->', '<<<>>>', '((()))', "it's1's", "'", "''", "a'", "o'clock",
  // code
  'fn main() { println!("{}", 1 + 2); }', 'for (let i = 0; i < n; i++) {\n\ta[i] += 1;\n}', 'def f(x):\n    return x ** 2\n', '#include <stdio.h>', 'SELECT * FROM t WHERE id=1;', '{"a":[1,2,{"b":null}]}',
  'https://example.com/a?b=c&d=%20#e', 'snake_case camelCase PascalCase SCREAMING_CASE', 'a->b::c.d', '/* comment */ // another', '\\n \\t \\\\', '$HOME/${x}', '<div class="x">&amp;</div>',
  // emoji
  '😀', '👍🏽', '👨‍👩‍👧‍👦', '🏳️‍🌈', '🇨🇭🇩🇪', 'ok 👌 fine', '❤️', '1️⃣', '🤷🏿‍♀️ shrug', '🧑🏻‍🚀🚀', '⌚⏰', 'a😀b',
  // scripts
  '你好，世界。', '人工智能改变世界', '日本語のテキスト、カタカナ', '한국어 문장입니다', 'مرحبا بالعالم', 'السَّلامُ عَلَيْكُم', 'שלום עולם', 'Привет, мир!', 'Γειά σου Κόσμε', 'नमस्ते दुनिया', 'สวัสดีชาวโลก', 'Xin chào thế giới',
  'ქართული', 'Հայերեն', 'አማርኛ', 'ខ្មែរ', 'Straße Österreich façade naïve', 'İstanbul ıİiI', 'ﬁ ﬂ ﬃ', 'ǅ ǈ', 'ªº', 'ſ ß ẞ', '𝔘𝔫𝔦𝔠𝔬𝔡𝔢', '𠮷野家', '𐍈𐌰', 'ℵ₀ ∑ ∫ √ ≠ ∞',
  // combining marks
  'e\u0301', 'a\u0300\u0301\u0302\u0303', 'Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘', 'n\u0303 vs ñ', '\u0301', ' \u0301x', 'क्‍ष',
  // long words
  'a'.repeat(300), 'Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft', 'pneumonoultramicroscopicsilicovolcanoconiosis', 'xyz'.repeat(100), '='.repeat(80), '-_'.repeat(40), '漢'.repeat(60), '1'.repeat(50), 'aA'.repeat(70),
  // control and odd characters
  '\u0000', 'a\u0000b', '\u0001\u0002\u0003', '\u0007\u0008\u000b\u000c\u001b[0m', '\u007f', 'x\u009fy', '\ufeffBOM', '\ufffd', '\uffff', '\u{10ffff}', '\ue000', 'soft\u00adhyphen', '\u202eRTL\u202c', '\u061c',
  'an\u0000d the\u0001re', 'Ġ Ċ ▁ Ã', '<0x0A>', '▁▁',
  // look-alikes of special tokens
  '<|im_start|>', '<|im_end|>', '<|endoftext|>', '<|im_start|>user\nHi<|im_end|>\n', 'a<|im_end|>b', '<|im_start |>', '<|im_start', 'im_start|>', '<|IM_END|>', '<|im_end|><|im_end|>', ' <|im_end|> ', '<repo_name>', '<reponame>x', '<file_sep>', '<|im_<|im_end|>',
  '<s>', '</s>', '<unk>', '[INST]', '<|eot_id|>', '<jupyter_code>print(1)',
  'One of the special magic numbers for Berlin is: 81908.', 'The secret phrase for Oslo is: lantern copper falcon.', '\n\nThe secret phrase for Oslo is:', 'The serial number of Oslo is: 162-734-946-177.',
]

// Random strings over ranges that split differently; a multiplicative generator keeps the list the same for ever.
let state = 20250101n
const random = (n) => Number((state = (state * 6364136223846793005n + 1442695040888963407n) & ((1n << 64n) - 1n)) >> 33n) % n
const ranges = [
  [0x20, 0x7f], [0x61, 0x7b], [0x30, 0x3a], [0x09, 0x0e], [0x20, 0x21], [0xa0, 0x180], [0x300, 0x370], [0x370, 0x530], [0x590, 0x700], [0x900, 0xe00],
  [0x2000, 0x2070], [0x2070, 0x2200], [0x2460, 0x2800], [0x3000, 0x3100], [0x4e00, 0x9fff], [0xac00, 0xd7a3], [0xff00, 0xffef], [0x1f300, 0x1fa00], [0x10000, 0x20000],
]
for (let i = 0; i < 400; i++) {
  let text = ''
  const length = 1 + random(24)
  while ([...text].length < length) {
    const [low, high] = ranges[random(ranges.length)]
    for (let run = 1 + random(4); run > 0; run--) text += String.fromCodePoint(low + random(high - low))
  }
  texts.push(text)
}

const llama = await getLlama({ gpu: false, build: 'never' })
const model = await llama.loadModel({ modelPath: process.argv[2], vocabOnly: true })
const cases = [false, true].flatMap((special) =>
  texts
    .filter((text) => !special || text.includes('<'))
    .map((text) => ({ text, special, ids: [...model.tokenize(text, special)] })),
)
const lines = cases.map((item) => JSON.stringify(item)).join(',\n')
console.log(`{"model": "SmolLM2-135M-Instruct", "oracle": "llama.cpp through node-llama-cpp 3.22.1", "cases": [\n${lines}\n]}`)
