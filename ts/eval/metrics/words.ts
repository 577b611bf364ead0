const CHINESE_OR_JAPANESE = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]/u
const segmenter = new Intl.Segmenter('zh', { granularity: 'word' })

/** Whether a text is written without spaces between its words. */
export function isUnspaced(text: string): boolean {
  return CHINESE_OR_JAPANESE.test(text)
}

/**
 * The words of a text written without spaces. LongBench segments with jieba; this takes the segmentation that comes with the runtime
 * (ICU), whose dictionary differs, so scores of Chinese tasks are near LongBench's but not the same.
 */
export function segmented(text: string): string[] {
  return Array.from(segmenter.segment(text), ({ segment }) => segment)
}

/** A text as SQuAD compares it (arXiv 1606.05250): lower case, without ASCII punctuation, articles and superfluous space. */
export function normalised(text: string): string {
  return text
    .toLowerCase()
    .replace(/[!-/:-@[-`{-~]/g, '')
    .replace(/(?<![\p{L}\p{N}_])(?:a|an|the)(?![\p{L}\p{N}_])/gu, ' ')
    .replace(/\s+/gu, ' ')
    .trim()
}

/** The words that F1 counts; `unspaced` texts are segmented, and lose all punctuation. */
export function words(text: string, unspaced: boolean): string[] {
  const found = unspaced
    ? segmented(text.toLowerCase()).map((word) => word.replace(/[\p{P}\p{S}\s]/gu, ''))
    : normalised(text).split(' ')
  return found.filter((word) => word !== '')
}
