'use strict'
// What the page does with what is in it. Names and labels only ever become text nodes, and nothing comes from elsewhere.
const $ = id => document.getElementById(id)
const about = JSON.parse($('about-json').textContent)
const { n, names, groups, classes } = about
const col = {}                                     // columns by name, one number per point, in the order of the map
const off = { group: new Set(), label: new Set() } // what is switched off
let by = 'group', selected = null, pinned = -1, hovered = -1, lit = null, fig, source, range

// ---- what is known of a point

const el = (tag, props = {}, ...kids) => { const e = Object.assign(document.createElement(tag), props); e.append(...kids); return e }
const kind = () => by === 'label' ? 'label' : 'group'
const entries = what => what === 'label' ? classes : groups
const entry = (what, i) => entries(what).find(e => e.id === col[what][i])
const percent = v => `${Math.round(v * 100)} %`
const nothing = { group: 'no group', label: 'no label' }
const bare = ({ id, name }) => name === `${id}` || name === `group ${id}`         // is its number all that a group is called by?
const member = (what, e) => e.id < 0 ? nothing[what] : what === 'label' ? `label ${e.name}` : bare(e) ? `group ${e.id}` : `${e.name} (group ${e.id})`
const facts = i => [
  member('group', entry('group', i)), classes && member('label', entry('label', i)),
  col.confidence && `confidence ${percent(col.confidence[i])}`, col.error && `error ${col.error[i].toPrecision(3)}`].filter(Boolean)
const shown = i => !off.group.has(col.group[i]) && !(classes && off.label.has(col.label[i]))

// ---- pictures: sheets of many, decoded when first needed, the last few kept

const decoded = new Map()
function sheet(which, k) {
  const id = `${which}${k}`, kept = decoded.get(id) || (async () => {
    const img = new Image()
    img.src = 'data:image/webp;base64,' + $(id).textContent
    await img.decode()
    return img
  })()
  decoded.delete(id)
  decoded.set(id, kept)
  if (decoded.size > 40) decoded.delete(decoded.keys().next().value)
  return kept
}

const { width, height, across, down } = about.sheet
const sheetOf = i => Math.floor(i / (across * down))
function cut(ctx, from, i, x, y, w, h) {           // the image of point i, out of its sheet
  const k = i % (across * down)
  ctx.drawImage(from, k % across * width, Math.floor(k / across) * height, width, height, x, y, w, h)
}

function picture(which, i, side) {
  const c = el('canvas', { className: 'image', width, height, role: 'img', ariaLabel: which === 'original' ? 'the image' : 'its reproduction' })
  const zoom = side / Math.max(width, height)
  c.style.width = `${width * zoom}px`
  c.style.height = `${height * zoom}px`
  sheet(which, sheetOf(i)).then(from => cut(c.getContext('2d'), from, i, 0, 0, width, height))
  return c
}

const pair = (i, side) => el('div', { className: 'pair' }, ...['original', 'reproduction'].filter(w => about.sheet[w]).map(w =>
  el('figure', {}, picture(w, i, side), el('figcaption', { textContent: w }))))
const card = (i, side) => [pair(i, side), el('div', { className: 'name', textContent: names[i] }),
  el('div', { className: 'facts', textContent: facts(i).join(' · ') })]

// ---- colours

const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim()
const isDark = () => document.documentElement.dataset.theme === 'dark'
const hue = e => {                                 // #rrggbb as a number; lighter on a dark page
  const c = parseInt((e.color || css('--none')).slice(1), 16), light = v => isDark() && e.color ? Math.round(v + (255 - v) * .38) : v
  return light(c >> 16) << 16 | light(c >> 8 & 255) << 8 | light(c & 255)
}
const hex = e => '#' + hue(e).toString(16).padStart(6, '0')

function limits(v) {                               // all but the hundredth part at the notable end
  const s = Float32Array.from(v).sort(), last = s.length - 1
  return by === 'error' ? [s[0], s[Math.floor(last * .99)]] : [s[Math.ceil(last * .01)], s[last]]
}
// What is notable, a low confidence or a large error, stands out from the page: dark on white, bright on black.
const step = t => about.scale[Math.max(0, Math.min(255, Math.round(((by === 'error') === isDark() ? t : 1 - t) * 255)))]
function shader() {
  if (by === kind()) {
    const hues = new Map(entries(by).map(e => [e.id, hue(e)]))
    return i => hues.get(col[by][i])
  }
  const [lo, hi] = limits(col[by])
  return i => parseInt(step((col[by][i] - lo) / (hi - lo || 1)).slice(1), 16)
}

function paint() {
  const shade = shader(), to = source.data.color
  for (let i = 0; i < n; i++) {
    const pale = selected ? !selected.has(i) : lit !== null && col[kind()][i] !== lit
    to[i] = shown(i) ? (shade(i) * 256 + (pale ? 22 : 215)) >>> 0 : 0
  }
  source.change.emit()
  over()
}

// ---- where things are

const box = () => $('map').getBoundingClientRect()
const place = i => {
  const b = $('map'), { x, y } = range
  return [(col.x[i] - x.start) / (x.end - x.start) * b.clientWidth, (y.end - col.y[i]) / (y.end - y.start) * b.clientHeight]
}
let dots
function grow() {                                  // points grow as one comes nearer
  const size = Math.round(about.size * Math.max(1, Math.min(3, (about.half / half()) ** .35)) * 2) / 2
  if (dots.size.value !== size) dots.size = { value: size }
}
function look(cx, cy, half) {                      // half: of the shorter side, in the map's own unit
  const b = $('map'), s = half / Math.min(b.clientWidth, b.clientHeight)
  range.x.setv({ start: cx - b.clientWidth * s, end: cx + b.clientWidth * s })
  range.y.setv({ start: cy - b.clientHeight * s, end: cy + b.clientHeight * s })
}
const centre = () => [(range.x.start + range.x.end) / 2, (range.y.start + range.y.end) / 2]
const half = () => Math.min(range.x.end - range.x.start, range.y.end - range.y.start) / 2
const fit = () => look(0, 0, about.half * 1.06)
const zoom = by => look(...centre(), Math.max(about.half / 1e4, Math.min(about.half * 4, half() * by)))
const go = i => { look(col.x[i], col.y[i], Math.min(half(), about.half / 6)) }

function nearest(px, py, most = 14) {              // the point shown nearest to a place on the screen, −1 if all are too far
  const b = $('map'), { x, y } = range, kx = (x.end - x.start) / b.clientWidth, ky = (y.end - y.start) / b.clientHeight
  const mx = x.start + px * kx, my = y.end - py * ky
  let best = -1, least = (most * kx) ** 2
  for (let i = 0; i < n; i++) {
    const d = (col.x[i] - mx) ** 2 + (col.y[i] - my) ** 2
    if (d < least && shown(i)) { best = i; least = d }
  }
  return best
}

// ---- what is drawn over the points: names, rings, and the images themselves where there is room

let waiting = false
function over() {
  if (waiting) return
  waiting = true
  requestAnimationFrame(async () => { waiting = false; await drawOver() })
}

let round = 0
async function drawOver() {
  const c = $('over'), b = $('map'), k = devicePixelRatio || 1, ctx = c.getContext('2d'), mine = ++round
  if (c.width !== b.clientWidth * k || c.height !== b.clientHeight * k) { c.width = b.clientWidth * k; c.height = b.clientHeight * k }
  ctx.setTransform(k, 0, 0, k, 0, 0)
  ctx.clearRect(0, 0, b.clientWidth, b.clientHeight)
  const seen = inSight(300)
  const from = seen && await opened(seen)
  if (mine !== round) return
  if (seen) for (const i of seen) thumbnail(ctx, from.get(sheetOf(i)), i, seen.length)
  else label(ctx)
  rings(ctx)
}

function inSight(most) {                           // the points in sight, if there are at most so many
  const { x, y } = range, res = []
  for (let i = 0; i < n; i++)
    if (col.x[i] > x.start && col.x[i] < x.end && col.y[i] > y.start && col.y[i] < y.end && shown(i) && res.push(i) > most) return null
  return res.length && half() < about.half / 2 ? res : null
}

async function opened(points) {                    // the sheets that these points are on, by number
  const numbers = [...new Set(points.map(sheetOf))]
  return new Map(await Promise.all(numbers.map(async k => [k, await sheet('original', k)])))
}

function thumbnail(ctx, from, i, many) {
  const [px, py] = place(i), side = Math.max(18, Math.min(56, 520 / Math.sqrt(many))), z = side / Math.max(width, height)
  ctx.globalAlpha = selected && !selected.has(i) ? .25 : 1
  ctx.strokeStyle = hex(entry(kind(), i))
  ctx.lineWidth = 2
  const w = width * z, h = height * z
  ctx.strokeRect(px - w / 2 - 1, py - h / 2 - 1, w + 2, h + 2)
  cut(ctx, from, i, px - w / 2, py - h / 2, w, h)
  ctx.globalAlpha = 1
}

function label(ctx) {
  ctx.font = '700 17px system-ui, sans-serif'
  ctx.textAlign = 'center'
  ctx.textBaseline = 'middle'
  ctx.lineJoin = 'round'
  for (const e of entries(kind())) {
    if (e.id < 0 || off[kind()].has(e.id)) continue
    const [px, py] = place(e.heart)
    ctx.lineWidth = 5
    ctx.strokeStyle = css('--back')
    ctx.fillStyle = css('--ink')
    const text = e.name.length > 24 ? e.name.slice(0, 23) + '…' : e.name
    ctx.strokeText(text, px, py)
    ctx.fillText(text, px, py)
  }
}

function rings(ctx) {
  const ring = (i, r, w) => {
    const [px, py] = place(i)
    ctx.beginPath()
    ctx.arc(px, py, r, 0, 7)
    ctx.lineWidth = w
    ctx.strokeStyle = css('--ring')
    ctx.stroke()
  }
  if (pinned >= 0) { ring(pinned, 11, 3); near(pinned).forEach(i => ring(i, 6, 1.5)) }
  if (hovered >= 0 && hovered !== pinned) ring(hovered, 7, 2)
}

// ---- hovering, pinning

const near = i => col.near ? Array.from(col.near.subarray(i * about.near, (i + 1) * about.near)).filter(j => j >= 0) : []

function hover(i, px, py) {
  const tip = $('tip')
  if (i !== hovered) {
    hovered = i
    tip.hidden = i < 0
    if (i >= 0) tip.replaceChildren(...card(i, 112))
    over()
  }
  if (i < 0) return
  const b = $('map'), w = tip.offsetWidth, h = tip.offsetHeight
  tip.style.left = `${px + 18 + w < b.clientWidth ? px + 18 : Math.max(4, px - w - 18)}px`
  tip.style.top = `${Math.max(4, Math.min(py + 12, b.clientHeight - h - 4))}px`
}

function pin(i) {
  pinned = i
  $('pinned').hidden = i < 0
  if (i >= 0) $('pinned').querySelector('.body').replaceChildren(...card(i, 128), ...neighbourhood(i))
  over()
}

function neighbourhood(i) {
  if (!near(i).length) return []
  const row = near(i).map(j => {
    const b = el('button', { title: names[j], ariaLabel: `neighbour ${names[j]}`, onclick: () => { pin(j); if (!inView(j)) go(j) } }, picture('original', j, 40))
    b.dataset.name = names[j]
    return b
  })
  return [el('div', { className: 'facts', textContent: 'nearest:' }), el('div', { className: 'near' }, ...row)]
}
const inView = i => { const [px, py] = place(i), b = $('map'); return px > 0 && py > 0 && px < b.clientWidth && py < b.clientHeight }

// ---- selections: a lasso or a search

let chosen = [], listed = 0, lassoed = false
function letGo() {                                 // of what Bokeh has selected: only another selection than that is told
  lassoed = false
  source.selected.indices = []
}
function lasso() {
  const i = Array.from(source.selected.indices).filter(shown)
  if (!i.length && !lassoed) return
  lassoed = i.length > 0
  select(lassoed ? i : null, 'in the lasso')
}
function select(list, what) {
  selected = list && new Set(list)
  chosen = list ? Array.from(list).sort((a, b) => col.number[a] - col.number[b]) : []
  listed = 0
  $('chosen').hidden = !list
  $('chosen').querySelector('h2 span').textContent = `${chosen.length.toLocaleString('en')} ${what}`
  $('chosen').querySelector('ol').replaceChildren()
  $('save').disabled = !chosen.length
  if (list) more()
  paint()
}
function more() {
  const next = chosen.slice(listed, listed + 60)
  $('chosen').querySelector('ol').append(...next.map(i => el('li', {},
    el('button', { title: names[i], onclick: () => { pin(i); if (!inView(i)) go(i) } }, picture('original', i, 36), el('span', { textContent: names[i] })))))
  listed += next.length
  $('more').hidden = listed >= chosen.length
}

const quoted = s => /[",\r\n]/.test(s) ? `"${s.replaceAll('"', '""')}"` : s
function csv() {
  const keep = ['group', ...(groups.every(e => e.id < 0 || e.name === `${e.id}`) ? [] : ['cluster']), ...(classes ? ['label'] : []), ...['confidence', 'error'].filter(k => col[k])]
  const value = (k, i) => k === 'cluster' ? col.group[i] : k === 'group' || k === 'label' ? (entry(k, i).id < 0 ? '' : quoted(entry(k, i).name)) : col[k][i]
  return [['name', ...keep], ...chosen.map(i => [quoted(names[i]), ...keep.map(k => value(k, i))])].map(r => r.join(',') + '\n').join('')
}
function save() {
  const url = URL.createObjectURL(new Blob([csv()], { type: 'text/csv' }))
  el('a', { href: url, download: 'selection.csv' }).click()
  setTimeout(() => URL.revokeObjectURL(url), 1000)
}

function search() {
  letGo()
  const q = $('search').value.toLowerCase()
  if (!q) return select(null)
  const found = []
  for (let i = 0; i < n; i++) if (lower[i].includes(q) && shown(i)) found.push(i)
  select(found, `found by name`)
}
let lower = []

// ---- the panel

function legend() {
  const what = kind(), continuous = by !== what
  document.querySelector('fieldset legend').textContent = what === 'label' ? 'Labels' : 'Groups'
  $('legend').replaceChildren(...entries(what).map(e => {
    const box = el('input', { type: 'checkbox', checked: !off[what].has(e.id), onchange: () => { off[what][box.checked ? 'delete' : 'add'](e.id); paint() } })
    const dot = el('span', { className: 'swatch' })
    dot.style.background = hex(e)
    dot.hidden = continuous
    const row = el('label', {}, box, dot, el('span', { className: 'what', textContent: e.id < 0 ? nothing[what] : e.name, title: member(what, e) }),
      el('span', { className: 'count', textContent: e.size.toLocaleString('en') }))
    row.onpointerenter = () => { lit = e.id; paint() }
    row.onpointerleave = () => { lit = null; paint() }
    return el('li', {}, row)
  }))
  $('scale').hidden = !continuous
  if (continuous) ramp()
}
function ramp() {
  const ctx = $('scale').querySelector('canvas').getContext('2d'), ends = limits(col[by])
  for (let i = 0; i < 256; i++) { ctx.fillStyle = step(i / 255); ctx.fillRect(i, 0, 1, 1) }
  const says = by === 'error' ? [ends[0].toPrecision(2), `≥ ${ends[1].toPrecision(2)}`] : [`≤ ${percent(ends[0])}`, percent(ends[1])]
  $('scale').querySelectorAll('span').forEach((s, i) => { s.textContent = says[i] })
}
const all = on => { const s = off[kind()]; s.clear(); if (!on) entries(kind()).forEach(e => s.add(e.id)); legend(); paint() }

function theme(dark) {
  document.documentElement.dataset.theme = dark ? 'dark' : 'light'
  if (source) { legend(); paint() }
}

function tool(name) {
  for (const t of ['move', 'lasso']) {
    $(t).setAttribute('aria-pressed', t === name)
    fig.document.get_model_by_name(t).active = t === name
  }
}

// ---- hands: pointer and keys

function pointer() {
  const b = $('map')
  let from = null
  b.addEventListener('pointermove', e => {
    const r = box()
    if (e.buttons || e.pointerType === 'touch' || e.target.closest('#tools')) return hover(-1)
    hover(nearest(e.clientX - r.left, e.clientY - r.top), e.clientX - r.left, e.clientY - r.top)
  })
  b.addEventListener('pointerleave', () => hover(-1))
  b.addEventListener('pointerdown', e => { from = [e.clientX, e.clientY] }, true)
  b.addEventListener('pointerup', e => {
    if (!from || e.target.closest('#tools') || Math.hypot(e.clientX - from[0], e.clientY - from[1]) > 5) return
    const r = box(), i = nearest(e.clientX - r.left, e.clientY - r.top, e.pointerType === 'touch' ? 26 : 14)
    pin(i === pinned ? -1 : i)
  }, true)
}

const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }
const keys = {
  '+': () => zoom(.7), '=': () => zoom(.7), '-': () => zoom(1 / .7), '0': fit, l: () => tool('lasso'), m: () => tool('move'),
  d: () => theme(!isDark()), '/': () => $('search').focus(), Escape: () => { if (pinned >= 0) pin(-1); else clear() },
}
const clear = () => { $('search').value = ''; letGo(); select(null) }
function key(e) {
  if (e.ctrlKey || e.metaKey || e.altKey) return
  if (e.target.matches('input[type=search], select')) { if (e.key === 'Escape') { clear(); $('map').focus() } return }
  const onMap = document.activeElement === $('map')
  if (onMap && steps[e.key]) { const [cx, cy] = centre(), [dx, dy] = steps[e.key]; look(cx + dx * half() / 5, cy + dy * half() / 5, half()) }
  else if (onMap && e.key === 'Enter') pin(nearest($('map').clientWidth / 2, $('map').clientHeight / 2, 1e9))
  else if (keys[e.key] ?? keys[e.key.toLowerCase()]) (keys[e.key] ?? keys[e.key.toLowerCase()])()
  else return
  e.preventDefault()
}

function hands() {
  pointer()
  document.addEventListener('keydown', key)
  Object.entries({ move: () => tool('move'), lasso: () => tool('lasso'), nearer: () => zoom(.7), farther: () => zoom(1 / .7), fit, theme: () => theme(!isDark()),
    all: () => all(true), none: () => all(false), save, more }).forEach(([id, f]) => { $(id).onclick = f })
  $('pinned').querySelector('.close').onclick = () => pin(-1)
  $('chosen').querySelector('.close').onclick = clear
  let typed
  $('search').oninput = () => { clearTimeout(typed); typed = setTimeout(search, 120) }
  $('by').onchange = () => { by = $('by').value; legend(); paint() }
}

// ---- the beginning

// WebGL that is only imitated by the processor is slower than no WebGL. `#webgl` or `#canvas` after the address overrules.
function backend() {
  if (/^#(webgl|canvas)$/.test(location.hash)) return location.hash.slice(1)
  const gl = el('canvas').getContext('webgl'), info = gl?.getExtension('WEBGL_debug_renderer_info')
  const by = gl?.getParameter(info ? info.UNMASKED_RENDERER_WEBGL : gl.RENDERER) ?? 'software'
  return /swiftshader|llvmpipe|software|basic render/i.test(by) ? 'canvas' : 'webgl'
}

const types = { f4: Float32Array, i2: Int16Array, i4: Int32Array, u4: Uint32Array }
async function columns() {
  for (const e of document.querySelectorAll('script[data-type]:not([data-type=""])')) {
    const raw = await (await fetch('data:application/octet-stream;base64,' + e.textContent)).arrayBuffer()
    col[e.id] = new types[e.dataset.type](raw)
    e.remove()
  }
}

async function begin() {
  theme(matchMedia('(prefers-color-scheme: dark)').matches)
  document.querySelector('h1').textContent = about.title
  $('about').textContent = about.summary
  await columns()
  lower = names.map(s => s.toLowerCase())
  const figure = JSON.parse($('figure-json').textContent)
  figure.doc.roots[0].attributes.output_backend = backend()
  const views = await Bokeh.embed.embed_item(figure, 'plot')
  fig = [...views][0].model
  source = fig.document.get_model_by_name('points')
  range = { x: fig.x_range, y: fig.y_range }
  col.x = source.data.x
  col.y = source.data.y
  const choices = ['group', classes && 'label', col.confidence && 'confidence', col.error && 'error'].filter(Boolean)
  const called = { group: 'group', label: 'label', confidence: 'confidence', error: 'reconstruction error' }
  $('by').append(...choices.map(c => el('option', { value: c, textContent: called[c] })))
  hands()
  legend()
  fit()
  source.selected.change.connect(lasso)
  dots = fig.renderers[0].glyph
  grow()
  for (const r of [range.x, range.y]) r.change.connect(() => { grow(); over() })
  new ResizeObserver(() => look(...centre(), half())).observe($('map'))
  paint()
  $('busy').hidden = true
  document.body.dataset.ready = 'yes'
}
begin().catch(e => { $('busy').textContent = `The map could not be drawn: ${e.message}`; throw e })
