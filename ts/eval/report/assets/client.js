// Draws the report in the reader's browser. `d3` and `Plot` stand in scripts before this one, the results in #data. Texts that come from models and
// prompts only ever become text nodes.
;(() => {
  const { d3, Plot } = globalThis
  const data = JSON.parse(document.getElementById('data').textContent)
  const page = document.getElementById('page')
  const unique = (values) => [...new Set(values)]
  const tasks = unique(data.results.map((row) => row.task))
  const modes = unique(data.results.map((row) => row.mode))
  const policies = unique(data.results.map((row) => row.policy))
  const budgets = unique(data.results.filter((row) => row.budget !== null).map((row) => row.budgetText))
  const isLoss = (row) => row.interval === null
  const served = (row) => row.errors < row.total

  const element = (name, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(name), properties)
    made.append(...children)
    return made
  }
  const bytes = (n) =>
    n >= 1e9 ? `${(n / 1e9).toFixed(2)} GB` : n >= 1e6 ? `${(n / 1e6).toFixed(1)} MB` : `${(n / 1e3).toFixed(1)} kB`
  const percent = (share) => `${(100 * share).toFixed(0)} %`
  const signed = (text) => (text.startsWith('-') ? `−${text.slice(1)}` : `+${text}`)
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim()

  // What everything is compared with is grey, so that the rest stands out.
  const BASELINES = { full: '--ink', random: '--soft' }
  const others = policies.filter((policy) => !(policy in BASELINES))
  const palette =
    others.length > 10 ? d3.quantize((t) => d3.interpolateRainbow(0.95 * t), others.length) : d3.schemeObservable10
  const colour = (policy) => (policy in BASELINES ? css(BASELINES[policy]) : palette[others.indexOf(policy)])

  /** Mean over the tasks with answers: one row a policy, budget and mode. */
  const overTasks = () =>
    d3
      .groups(
        data.results.filter((row) => !isLoss(row)),
        (row) => `${row.mode} ${row.policy} ${row.budgetText}`,
      )
      .map(([, rows]) => {
        const mean = (of, over = rows) => d3.mean(over, of) ?? 0
        const answered = rows.filter(served)
        const known = rows.every((row) => row.msPerToken !== null)
        return {
          ...rows[0],
          task: 'all tasks',
          correct: d3.sum(rows, (row) => row.correct),
          total: d3.sum(rows, (row) => row.total),
          errors: d3.sum(rows, (row) => row.errors),
          score: mean((row) => row.score),
          keptBytes: mean((row) => row.keptBytes, answered),
          physicalBytes: mean((row) => row.physicalBytes, answered),
          compressSeconds: d3.sum(rows, (row) => row.compressSeconds),
          msPerToken: known ? mean((row) => row.msPerToken) : null,
          interval: [Number.NaN, Number.NaN],
          versusFull: null,
          items: [],
        }
      })

  const select = (title, values, onChange) => {
    const box = element('select', { onchange: onChange }, ...values.map((value) => element('option', { value }, value)))
    return { box, label: element('label', {}, title, box) }
  }

  const answering = tasks.filter((task) => data.results.some((row) => row.task === task && !isLoss(row)))
  const taskChoice = select('Task', [...(answering.length > 1 ? ['all tasks'] : []), ...tasks], () => draw())
  const modeChoice = select('Mode', [...modes, ...(modes.length > 1 ? ['both'] : [])], () => draw())
  const budgetChoice = select('Budget of the maps', budgets, () => draw())
  const legend = element('div', { className: 'legend' })
  const byBytes = element('div')
  const byTime = element('div')
  const timeTitle = element('h2', {}, 'Quality against time')
  const timeText = element('p', {}, 'Milliseconds a token of one session, with nothing else running.')
  const maps = element('div', { className: 'scroll' })
  const mapText = element('p')
  const gridTitle = element('h2', {}, 'A needle by depth and length')
  const grid = element('div', { className: 'legend' })
  const table = element('div', { className: 'scroll' })
  const answers = element('div')
  const first = data.results[0]

  page.append(
    element('h1', {}, `How much ${data.model.split(/[/\\]/).at(-1)} still knows`),
    element(
      'p',
      {},
      `${first ? `${d3.sum(tasks, (task) => data.results.find((row) => row.task === task).total)} questions of ${tasks.length} task${tasks.length > 1 ? 's' : ''}, ` : ''}${policies.length} policies, ${budgets.length} budget${budgets.length === 1 ? '' : 's'}. ${data.date}, ${data.machine}. `,
      element('code', {}, data.command),
    ),
    element('div', { className: 'choices' }, taskChoice.label, modeChoice.label, budgetChoice.label),
    legend,
    element('h2', {}, 'Quality against memory'),
    element(
      'p',
      {},
      'Bytes of the blocks that hold the cache behind the compression, mean over the prompts. Rings: no other point is better with fewer bytes. Agnostic: the cache was cut before the question was known.',
    ),
    byBytes,
    timeTitle,
    timeText,
    byTime,
    element('h2', {}, 'Which heads keep how much'),
    mapText,
    maps,
    gridTitle,
    grid,
    element('h2', {}, 'All figures'),
    element(
      'p',
      {},
      'Sort by any column. A policy’s name shows its answers. Brackets: 95 % intervals, Wilson’s for the share of right answers and a paired bootstrap’s for the difference to the full cache.',
    ),
    table,
    answers,
  )

  const shown = () => {
    const { value: task } = taskChoice.box
    const { value: mode } = modeChoice.box
    const rows = task === 'all tasks' ? overTasks() : data.results.filter((row) => row.task === task)
    return mode === 'both' ? rows : rows.filter((row) => row.mode === mode)
  }

  /** Points that no other point of the mode beats at as few bytes (or as little time). */
  const frontier = (rows, x, better) =>
    rows.filter(
      (row) => !rows.some((other) => other.mode === row.mode && x(other) <= x(row) && better(other.score, row.score)),
    )

  const curves = (into, rows, x, xType, xLabel, xFormat) => {
    const loss = rows.some(isLoss)
    const y = (row) => (loss ? row.score : 100 * row.score)
    const wide = into.clientWidth >= 640
    const several = unique(rows.map((row) => row.mode)).length > 1
    const facet = several ? { [wide ? 'fx' : 'fy']: 'mode' } : {}
    const best = frontier(rows, x, (a, b) => (loss ? a < b : a > b))
    const stroke = (row) => colour(row.policy)
    const title = (row) =>
      `${row.policy}, ${row.budgetText === 'all' ? 'everything' : `keep ${row.budgetText}`}, ${row.mode}\n${loss ? `${row.score.toFixed(3)} nats a token` : `${y(row).toFixed(1)} %`}\n${bytes(row.physicalBytes)}${row.msPerToken === null ? '' : `, ${row.msPerToken.toFixed(2)} ms a token`}`
    into.replaceChildren(
      Plot.plot({
        width: into.clientWidth,
        height: several && !wide ? 640 : 380,
        marginLeft: 48,
        marginRight: 24,
        marginBottom: 44,
        style: { background: 'transparent', fontSize: '12px' },
        x: {
          type: xType,
          label: xLabel,
          labelOffset: 40,
          tickFormat: xFormat,
          ticks: wide && !several ? 8 : 4,
          grid: true,
        },
        y: {
          label: loss ? '↓ better, nats a token' : '↑ score, %',
          grid: true,
          nice: true,
          ...(!loss && { domain: [0, 100] }),
        },
        marks: [
          Plot.ruleY(
            rows.filter((row) => row.policy === 'full'),
            { y, ...facet, stroke: 'currentColor', strokeDasharray: '4 4', strokeOpacity: 0.5 },
          ),
          Plot.line(rows, {
            x,
            y,
            z: (row) => `${row.policy} ${row.mode}`,
            ...facet,
            stroke,
            strokeWidth: 1.75,
            sort: x,
          }),
          Plot.dot(rows, { x, y, ...facet, fill: stroke, r: 3.5 }),
          Plot.dot(best, { x, y, ...facet, stroke, strokeWidth: 1.5, r: 7 }),
          Plot.tip(rows, Plot.pointer({ x, y, ...facet, title, fill: css('--card'), stroke: css('--line') })),
        ],
      }),
    )
  }

  /** A small map a policy, all on one scale. */
  const heat = () => {
    const { value: mode } = modeChoice.box
    const { value: budget } = budgetChoice.box
    const task = taskChoice.box.value === 'all tasks' ? tasks[0] : taskChoice.box.value
    const wanted = mode === 'both' ? modes[0] : mode
    const chosen = data.kept.filter((kept) => kept.task === task && kept.mode === wanted && kept.budgetText === budget)
    const cells = chosen.map(({ policy, share }) => {
      const mean = d3.mean(share.flat())
      return {
        policy,
        flat: share.flatMap((heads, layer) => heads.map((kept, head) => ({ layer, head, kept, times: kept / mean }))),
      }
    })
    mapText.textContent =
      chosen.length > 0
        ? `Slots that each KV head keeps, against the policy’s mean head (${task}, ${wanted}, keep ${budget}); layers from top to bottom, heads from left to right. A policy that treats all heads alike is one flat colour.`
        : 'No samples were taken of this choice.'
    const most = d3.max(cells, ({ flat }) => d3.max(flat, ({ times }) => times)) ?? 1
    const ramp = { type: 'linear', domain: [0, most], interpolate: d3.interpolateRgb(css('--card'), css('--accent')) }
    const figures = cells.map(({ policy, flat }) => {
      const heads = d3.max(flat, ({ head }) => head) + 1
      const layers = d3.max(flat, ({ layer }) => layer) + 1
      return element(
        'div',
        {},
        element('div', { className: 'legend' }, element('span', {}, policy)),
        Plot.plot({
          width: Math.max(110, 40 + 14 * heads),
          height: 24 + Math.max(120, 9 * layers),
          marginLeft: 28,
          marginTop: 4,
          marginBottom: 18,
          style: { background: 'transparent', fontSize: '10px' },
          x: { label: null, tickSize: 0 },
          y: {
            label: null,
            tickSize: 0,
            ticks: d3.range(0, layers, 5),
            tickFormat: (layer) => (layer % 5 === 0 ? layer : ''),
          },
          color: ramp,
          marks: [
            Plot.cell(flat, {
              x: 'head',
              y: 'layer',
              fill: 'times',
              inset: 0.5,
              title: ({ layer, head, kept, times }) =>
                `layer ${layer}, head ${head}: ${(100 * kept).toFixed(1)} %, ${times.toFixed(2)} times the mean`,
            }),
          ],
        }),
      )
    })
    const scale = Plot.legend({
      color: { ...ramp, label: 'times the mean head' },
      width: 224,
      marginLeft: 12,
      style: { background: 'transparent' },
    })
    const grid = element('div', { className: 'legend' }, ...figures)
    maps.replaceChildren(...(figures.length > 0 ? [scale, grid] : []))
  }

  /** Of niah_grid: the share of right answers at each depth of each length, a map a policy. */
  const drawGrid = () => {
    const wanted = modeChoice.box.value === 'both' ? modes[0] : modeChoice.box.value
    const cells = data.results
      .filter((row) => row.mode === wanted && (row.budget === null || row.budgetText === budgetChoice.box.value))
      .flatMap((row) =>
        row.items.flatMap(({ id, score }) => {
          const place = /^niah_grid-(\d+)-depth(\d+)-/.exec(id)
          return place ? [{ policy: row.policy, length: Number(place[1]), depth: Number(place[2]), score }] : []
        }),
      )
    for (const part of [gridTitle, grid]) part.hidden = cells.length === 0
    const figures = d3
      .groups(cells, ({ policy }) => policy)
      .map(([policy, mine]) => {
        const means = d3.flatRollup(
          mine,
          (same) => d3.mean(same, ({ score }) => score),
          ({ length }) => length,
          ({ depth }) => depth,
        )
        return element(
          'div',
          {},
          element('div', { className: 'legend' }, element('span', {}, policy)),
          Plot.plot({
            width: 70 + 44 * unique(means.map(([length]) => length)).length,
            height: 240,
            marginLeft: 40,
            marginBottom: 20,
            marginTop: 4,
            style: { background: 'transparent', fontSize: '10px' },
            x: { label: null, tickSize: 0 },
            y: { label: null, tickSize: 0, tickFormat: (depth) => `${depth} %` },
            color: { type: 'linear', domain: [0, 1], interpolate: d3.interpolateRgb(css('--card'), css('--accent')) },
            marks: [
              Plot.cell(means, {
                x: '0',
                y: '1',
                fill: '2',
                inset: 0.5,
                title: ([length, depth, share]) => `${length} tokens, depth ${depth} %: ${percent(share)} right`,
              }),
            ],
          }),
        )
      })
    grid.replaceChildren(...figures)
  }

  const columns = [
    { title: 'policy', of: (row) => row.policy, name: true },
    {
      title: 'keep',
      of: (row) => (row.budget === null ? Number.POSITIVE_INFINITY : Object.values(row.budget)[0]),
      text: (row) => row.budgetText,
    },
    { title: 'mode', of: (row) => row.mode, name: true },
    { title: 'task', of: (row) => row.task, name: true },
    { title: 'score', of: (row) => (served(row) ? row.score : Number.NaN), cell: (row) => scoreCell(row) },
    { title: 'to full', of: (row) => row.versusFull?.mean ?? Number.NaN, text: difference },
    { title: 'kept', of: (row) => row.keptBytes, text: (row) => bytes(row.keptBytes) },
    { title: 'held', of: (row) => row.physicalBytes, text: (row) => bytes(row.physicalBytes) },
    {
      title: 'ms/token',
      of: (row) => row.msPerToken ?? Number.NaN,
      text: (row) => (row.msPerToken === null ? '' : row.msPerToken.toFixed(2)),
    },
    {
      title: 'compress',
      of: (row) => row.compressSeconds / row.total,
      text: (row) => (row.policy === 'full' ? '' : `${((1e3 * row.compressSeconds) / row.total).toFixed(1)} ms`),
    },
  ]
  let order = { column: columns[4], descending: true }

  function difference({ versusFull, interval }) {
    if (!versusFull) return ''
    const text = (value) => signed(interval === null ? value.toFixed(3) : (100 * value).toFixed(0))
    return `${text(versusFull.mean)} [${versusFull.interval.map(text).join(', ')}]`
  }

  function scoreCell(row) {
    if (!served(row)) return [row.items[0]?.error ?? 'not served']
    if (isLoss(row)) return [`${row.score.toFixed(3)} nats`]
    const bar = element('span', { className: 'bar' }, element('i'))
    bar.firstChild.style.width = `${100 * row.score}%`
    const interval = Number.isNaN(row.interval[0])
      ? ''
      : ` [${row.interval.map((x) => (100 * x).toFixed(0)).join(', ')}]`
    return [
      bar,
      element('span', { className: 'count' }, `${percent(row.score)}, ${row.correct} of ${row.total}${interval}`),
    ]
  }

  const drawTable = (rows) => {
    const { column, descending } = order
    const compare = (a, b) => (descending ? d3.descending : d3.ascending)(column.of(a), column.of(b))
    const head = columns.map((one) => {
      const onclick = () => {
        order = {
          column: one,
          descending: order.column === one ? !order.descending : typeof one.of(rows[0]) === 'number',
        }
        drawTable(rows)
      }
      const cell = element(
        'th',
        { scope: 'col', className: one.name ? 'name' : '' },
        element('button', { type: 'button', onclick }, one.title),
      )
      if (one === column) cell.ariaSort = descending ? 'descending' : 'ascending'
      return cell
    })
    const body = [...rows].sort(compare).map((row) => {
      const line = element('tr')
      const open = () => {
        for (const other of table.querySelectorAll('tr.open')) other.classList.remove('open')
        line.classList.add('open')
        drawAnswers(row)
      }
      line.onclick = open
      line.append(
        ...columns.map((one, i) => {
          const content = one.cell ? one.cell(row) : [one.text ? one.text(row) : String(one.of(row))]
          return element(
            'td',
            { className: one.name ? 'name' : '' },
            ...(i === 0 ? [element('button', { type: 'button' }, ...content)] : content),
          )
        }),
      )
      return line
    })
    table.replaceChildren(
      element('table', {}, element('thead', {}, element('tr', {}, ...head)), element('tbody', {}, ...body)),
    )
    answers.replaceChildren()
  }

  const drawAnswers = (row) => {
    const lines = row.items.map(({ id, correct, score, text, error }) => {
      const verdict =
        error ?? (isLoss(row) ? `${score.toFixed(3)} nats` : correct ? 'right' : score > 0 ? percent(score) : 'wrong')
      return element(
        'tr',
        {},
        element('td', {}, id),
        element('td', { className: correct ? 'yes' : isLoss(row) ? '' : 'no' }, verdict),
        element('td', {}, text.trim()),
      )
    })
    const title = `${row.policy}, keep ${row.budgetText}, ${row.mode}, ${row.task}`
    answers.replaceChildren(
      element(
        'div',
        { className: 'answers' },
        element('table', {}, element('caption', {}, title), element('tbody', {}, ...lines)),
      ),
    )
  }

  function draw() {
    const rows = shown()
    const drawn = rows.filter((row) => served(row) && row.physicalBytes > 0)
    const timed = drawn.filter((row) => row.msPerToken !== null)
    legend.replaceChildren(
      ...policies.map((policy) => {
        const dot = element('i')
        dot.style.background = colour(policy)
        return element('span', {}, dot, policy)
      }),
    )
    curves(
      byBytes,
      drawn,
      (row) => row.physicalBytes,
      'log',
      'megabytes →',
      (n) => String(Number((n / 1e6).toPrecision(3))),
    )
    for (const part of [timeTitle, timeText, byTime]) part.hidden = timed.length === 0
    if (timed.length > 0)
      curves(
        byTime,
        timed,
        (row) => row.msPerToken,
        'linear',
        'milliseconds a token →',
        (ms) => ms.toFixed(1),
      )
    heat()
    drawGrid()
    drawTable(rows)
  }

  draw()
  let width = page.clientWidth
  addEventListener('resize', () => {
    if (page.clientWidth === width) return
    width = page.clientWidth
    draw()
  })
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw)
})()
