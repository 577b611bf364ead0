// Shows which tokens of a prompt the heads keep. Texts only ever become text nodes.
;(() => {
  const { model, prompts } = JSON.parse(document.getElementById('data').textContent)
  const page = document.getElementById('page')
  const element = (name, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(name), properties)
    made.append(...children)
    return made
  }
  const select = (title, onchange) => {
    const box = element('select', { onchange })
    return { box, label: element('label', {}, title, box) }
  }
  const fill = ({ box }, names) => {
    const { value } = box
    box.replaceChildren(...names.map((name, i) => element('option', { value: String(i) }, name)))
    if (Number(value) < names.length) box.value = value || '0'
  }

  const promptChoice = select('Prompt', () => drawPrompt())
  const settingChoice = select('Policy', () => draw())
  const headChoice = select('Heads', () => draw())
  const summary = element('p')
  const text = element('div', { className: 'text' })
  page.append(
    element('h1', {}, `What ${model.split(/[/\\]/).at(-1)} keeps`),
    element(
      'p',
      {},
      'The stronger the colour, the more of the chosen heads keep the token; underlined: all of them. Point at a token for the count.',
    ),
    element('div', { className: 'choices' }, promptChoice.label, settingChoice.label, headChoice.label),
    summary,
    text,
  )
  fill(
    promptChoice,
    prompts.map(({ name }) => name),
  )

  const prompt = () => prompts[Number(promptChoice.box.value)]

  function drawPrompt() {
    const { settings } = prompt()
    fill(
      settingChoice,
      settings.map(({ name }) => name),
    )
    const { kept } = settings[0]
    const layers = kept.map((heads, layer) => [
      `layer ${layer}`,
      ...heads.map((_, head) => `layer ${layer}, head ${head}`),
    ])
    fill(headChoice, ['all', ...layers.flat()])
    draw()
  }

  function draw() {
    const { tokens, settings } = prompt()
    const { kept } = settings[Number(settingChoice.box.value)]
    const rows = kept.flatMap((heads) => [heads, ...heads.map((row) => [row])])
    const chosen = headChoice.box.value === '0' ? kept.flat() : rows[Number(headChoice.box.value) - 1]
    const counts = new Array(tokens.length).fill(0)
    for (const row of chosen) for (const position of row) counts[position] += 1
    const slots = counts.reduce((sum, count) => sum + count, 0)
    const gone = counts.filter((count) => count === 0).length
    summary.textContent = `${tokens.length} tokens, ${chosen.length} head${chosen.length === 1 ? '' : 's'}: ${((100 * slots) / (tokens.length * chosen.length)).toFixed(1)} % of the slots are kept, ${gone} tokens by no head at all.`
    text.replaceChildren(
      ...tokens.map((piece, i) => {
        const share = counts[i] / chosen.length
        const token = element('span', { title: `token ${i}: ${counts[i]} of ${chosen.length} heads` }, piece)
        token.style.setProperty('--share', share.toFixed(3))
        if (counts[i] === 0) token.className = 'gone'
        if (share === 1) token.className = 'whole'
        return token
      }),
    )
  }

  drawPrompt()
})()
