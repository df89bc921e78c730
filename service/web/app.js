'use strict';
// The page of `filo serve`: views by hash (#/, #/experiments/NAME, #/experiments/NAME/trials/N, #/stages/KEY), drawn from
// the HTTP API and kept up to date by its event streams. Text from the server only ever becomes text nodes.

const STATES = {  // sign: what tells a state apart without its colour
  waiting: '·', queued: '…', running: '▶', done: '✓', failed: '✕', blocked: '⊘', stopped: '■', cancelled: '–',
};
const METRIC_TITLES = {
  image_auroc: 'image AUROC', image_ap: 'image AP', image_f1_max: 'image F1-max', pixel_auroc: 'pixel AUROC', pixel_ap: 'pixel AP',
  pixel_f1_max: 'pixel F1-max', aupro: 'AUPRO',
};
const API = '/api/v1';
const main = document.getElementById('main');

// --- elements ----------------------------------------------------------------------------------------------------------

function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'class') element.className = value;
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== ''));
  return element;
}

const sign = (state) => h('span', {class: 'sign ' + state, 'aria-hidden': 'true'}, STATES[state] || '?');
const stateText = (state) => h('span', {class: 'state'}, sign(state), state);
const percent = (value) => (typeof value === 'number' ? (100 * value).toFixed(1) : '–');
const plural = (count, word) => `${count.toLocaleString('en')} ${word}${count === 1 ? '' : 's'}`;
const stageLink = (key, label) => h('a', {href: '#/stages/' + key}, label || key);
const experimentLink = (name) => h('a', {href: '#/experiments/' + encodeURIComponent(name)}, name);
const at = (seconds) => (seconds ? new Date(seconds * 1000).toLocaleString() : '–');

function bytesText(bytes) {
  if (bytes === null || bytes === undefined) return '–';
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let unit = 0;
  for (; bytes >= 1000 && unit < 4; ++unit) bytes /= 1000;
  return `${unit === 0 ? bytes : bytes.toFixed(1)} ${units[unit]}`;
}

function countsText(progress, word) {
  const others = Object.entries(progress.states).filter(([state]) => state !== 'done').map(([state, count]) => `${count.toLocaleString('en')} ${state}`);
  return `${progress.done.toLocaleString('en')} of ${plural(progress.total, word)} done` + (others.length ? ', ' + others.join(', ') : '');
}

function progressBar(progress) {
  const bar = h('div', {class: 'bar', role: 'img', 'aria-label': countsText(progress, 'trial')});
  for (const state of ['done', 'running', 'queued', 'stopped', 'cancelled', 'blocked', 'failed', 'waiting']) {
    const count = progress.states[state] || 0;
    if (!count) continue;
    const part = h('span', {class: state});
    part.style.flexGrow = count;
    bar.append(part);
  }
  return bar;
}

// Replaces only what differs, so that focus, scroll positions and open details outlive a refresh.
function replaceIfChanged(holder, ...children) {
  const fresh = document.createElement(holder.tagName);
  fresh.append(...children.flat(9).filter(Boolean));
  if (fresh.innerHTML === holder.dataset.shown) return false;
  holder.dataset.shown = fresh.innerHTML;
  const focused = holder.contains(document.activeElement) ? document.activeElement.getAttribute('data-focus') : null;
  holder.replaceChildren(...fresh.childNodes);
  if (focused) {
    const again = [...holder.querySelectorAll('[data-focus]')].find((one) => one.dataset.focus === focused);
    if (again) again.focus({preventScroll: true});
  }
  return true;
}

// --- server ------------------------------------------------------------------------------------------------------------

class Refused extends Error {
  constructor(status, detail) { super(detail); this.status = status; }
}

const session = {
  get token() { return sessionStorage.getItem('filo-token') || ''; },
  set token(value) { value ? sessionStorage.setItem('filo-token', value) : sessionStorage.removeItem('filo-token'); },
};

async function request(path, options = {}) {
  const token = session.token;
  const response = await fetch(path, {
    ...options, headers: {Authorization: 'Bearer ' + token, ...(options.headers || {})}, cache: 'no-store', credentials: 'omit',
  });
  if (response.ok || response.status === 304) return response;
  let detail = response.statusText;
  try { detail = (await response.json()).detail || detail; } catch { /* not of this server's making */ }
  if (response.status === 401 && token === session.token) askForToken();  // else it was asked for, and perhaps given, meanwhile
  throw new Refused(response.status, detail);
}

const json = async (path, options) => (await request(path, options)).json();

// As json(), but the former answer when nothing has changed since.
const remembered = new Map();
async function jsonIfNew(path) {
  const known = remembered.get(path);
  const response = await request(path, known ? {headers: {'If-None-Match': known.tag}} : {});
  if (response.status === 304) return known.value;
  const entry = {tag: response.headers.get('ETag'), value: await response.json()};
  if (remembered.size > 50) remembered.clear();
  remembered.set(path, entry);
  return entry.value;
}

// Whether somebody can see this page. A browser opens six connections to a server at most, whatever the number of tabs: streams of
// tabs in the background, and of pages kept for "back", would leave none for the page that is looked at.
const presence = {
  left: false,
  listeners: new Set(),
  get shown() { return !document.hidden && !this.left; },
  changed() { for (const listener of [...this.listeners]) listener(); },
};
document.addEventListener('visibilitychange', () => presence.changed());
window.addEventListener('pagehide', () => { presence.left = true; presence.changed(); });
window.addEventListener('pageshow', () => { presence.left = false; presence.changed(); });

// Server-sent events by fetch, because EventSource cannot send the token in a header. Goes on after the last event when the
// connection is lost or the page was out of sight; `onState(connected, seconds until the next try)`.
function follow(path, {lastId = '', onEvent, onState = () => {}}) {
  let stopped = false;
  let control = null;
  let wait = 1;
  let wakeUp = () => {};
  const look = () => {
    if (presence.shown) wakeUp();
    else if (control) control.abort();
  };
  presence.listeners.add(look);

  // Throws what fetch throws; returns when the server ends the stream.
  const read = async () => {
    const headers = {Accept: 'text/event-stream', ...(lastId ? {'Last-Event-ID': lastId} : {})};
    const response = await request(path, {headers, signal: control.signal});
    onState(true, 0);
    wait = 1;
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    for (;;) {
      const {value, done} = await reader.read();
      if (done) return;
      text += value;
      for (let end; (end = text.indexOf('\n\n')) >= 0; text = text.slice(end + 2)) {
        let data = '';
        for (const line of text.slice(0, end).split('\n')) {
          if (line.startsWith('id: ')) lastId = line.slice(4);
          if (line.startsWith('data: ')) data += line.slice(6);
        }
        if (data && !stopped) onEvent(JSON.parse(data));
      }
    }
  };

  (async () => {
    while (!stopped) {
      if (!presence.shown) {
        await new Promise((resolve) => { wakeUp = resolve; });
        continue;
      }
      control = new AbortController();
      try {
        await read();
      } catch (problem) {
        if (problem.status === 401 || problem.status === 404) break;
      }
      if (stopped || !presence.shown) continue;
      onState(false, wait);
      await new Promise((resolve) => { wakeUp = resolve; setTimeout(resolve, wait * 1000); });
      wait = Math.min(wait * 2, 15);
    }
    presence.listeners.delete(look);
  })();
  return () => {
    stopped = true;
    if (control) control.abort();
    wakeUp();
  };
}

// --- login -------------------------------------------------------------------------------------------------------------

function takeTokenFromAddress() {
  const found = /^#token=([\x21-\x7e]+)$/.exec(location.hash);
  if (!found) return false;
  session.token = decodeURIComponent(found[1]);
  history.replaceState(null, '', location.pathname + '#/');
  return true;
}

let asking = false;
function askForToken() {
  if (asking) return;
  asking = true;
  leave();
  stopFollowing();
  const wrong = Boolean(session.token);
  const input = h('input', {type: 'password', id: 'token', autocomplete: 'off', required: true, 'aria-describedby': 'token-help'});
  main.replaceChildren(h('h1', {}, 'Token'), h('form', {class: 'login', onsubmit: (event) => {
    event.preventDefault();
    session.token = input.value.trim();
    asking = false;
    start();
  }},
  wrong ? h('p', {role: 'alert'}, 'The server does not know this token.') : null,
  h('label', {for: 'token'}, 'Token of this workspace’s server'), input,
  h('p', {id: 'token-help', class: 'faint'}, 'It stands in the file “token” in the workspace, and is kept in this browser tab only.'),
  h('div', {}, h('button', {}, 'Open'))));
  session.token = '';
  input.focus();
}

// --- live --------------------------------------------------------------------------------------------------------------

let view = null;          // {refresh(), progress(stages), leave()}
let stopWorkspace = null;
let refreshing = null;

function stopFollowing() {
  if (stopWorkspace) stopWorkspace();
  stopWorkspace = null;
}

function showConnection(connected, seconds) {
  const line = document.getElementById('connection');
  line.className = connected ? '' : 'offline';
  line.textContent = connected ? 'live' : `offline – the server does not answer; trying again every ${seconds} s`;
  document.documentElement.dataset.connected = connected;
}

function showProblem(text) {
  const line = document.getElementById('problem');
  line.hidden = !text;
  line.textContent = text || '';
}

// At most once a second, and once more when something came meanwhile.
function refreshSoon(delay = 300) {
  if (!refreshing) refreshing = {again: false, timer: setTimeout(doRefresh, delay)};
  else refreshing.again = true;
}

async function doRefresh() {
  const current = view;
  const state = refreshing;
  state.again = false;
  try {
    if (current) await current.refresh();
  } catch (problem) {
    if (problem instanceof Refused && problem.status !== 401) showProblem(problem.message);
  }
  setTimeout(() => { if (refreshing === state) { refreshing = null; if (state.again) refreshSoon(); } }, 1000);
}

function followWorkspace() {
  stopFollowing();
  stopWorkspace = follow(API + '/events', {
    onState: (connected, seconds) => { showConnection(connected, seconds); if (connected) refreshSoon(0); },
    onEvent: (event) => {
      if (event.event === 'progress' && view && view.progress) view.progress(event.stages);
      if (event.event === 'stages' || event.event === 'reset') refreshSoon();
    },
  });
}

// --- actions -----------------------------------------------------------------------------------------------------------

function confirmed(title, text, button, dangerous) {
  const dialog = document.getElementById('confirm');
  document.getElementById('confirm-title').textContent = title;
  document.getElementById('confirm-text').textContent = text;
  const yes = document.getElementById('confirm-yes');
  yes.textContent = button;
  yes.className = dangerous ? 'danger' : '';
  dialog.returnValue = 'no';
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), {once: true}));
}

function actionButton(label, dangerous, title, text, path) {
  return h('button', {class: dangerous ? 'danger' : '', 'data-focus': path, onclick: async (event) => {
    const button = event.currentTarget;
    if (!await confirmed(title, text, label, dangerous)) return;
    button.disabled = true;
    try {
      const {active} = await json(path, {method: 'POST'});
      showProblem(active ? '' : `${label}: noted in the workspace. No coordinator looks after it now: filo run FILE or filo submit FILE goes on with it.`);
      refreshSoon(500);
    } catch (problem) {
      showProblem(`${label}: ${problem.message}`);
    }
    button.disabled = false;
  }}, label);
}

// --- grid of trials ----------------------------------------------------------------------------------------------------

// One canvas however many trials there are; arrow keys move, Enter opens, and the line below says in words what the cell shows.
class Grid {
  constructor(experiment) {
    this.experiment = experiment;
    this.cells = [];
    this.states = [];
    this.selected = 0;
    this.canvas = h('canvas', {tabindex: 0, role: 'application', id: 'grid', 'aria-label': 'Grid of trials. Arrow keys move, Enter opens the trial.',
      'aria-describedby': 'grid-cell'});
    this.output = h('output', {id: 'grid-cell', 'aria-live': 'polite'});
    this.element = h('div', {class: 'grid-box'}, this.canvas, this.output);
    this.canvas.addEventListener('keydown', (event) => this.key(event));
    this.canvas.addEventListener('click', (event) => this.click(event));
    this.canvas.addEventListener('focus', () => this.select(this.selected));
    this.canvas.addEventListener('blur', () => this.draw());
    this.observer = new ResizeObserver(() => this.layout());
    this.observer.observe(this.element);
    this.dark = matchMedia('(prefers-color-scheme: dark)');
    this.redraw = () => this.draw();
    this.dark.addEventListener('change', this.redraw);
  }

  leave() {
    this.observer.disconnect();
    this.dark.removeEventListener('change', this.redraw);
  }

  show({states, cells}) {
    const resized = cells.length !== this.cells.length;
    this.states = states;
    this.cells = cells;
    if (resized) this.layout();
    else this.draw();
    if (!this.output.textContent) this.output.textContent = 'Choose a cell with the pointer or the arrow keys to see its trial.';
  }

  layout() {
    const width = Math.max(100, this.element.clientWidth - 22);
    const count = Math.max(1, this.cells.length);
    let size = 30;
    while (size > 7 && Math.ceil(count / Math.floor(width / size)) * size > 420) --size;
    this.size = size;
    this.columns = Math.max(1, Math.floor(width / size));
    const height = Math.ceil(count / this.columns) * size;
    const scale = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
    this.canvas.style.height = height + 'px';
    this.context = this.canvas.getContext('2d');
    this.context.setTransform(scale, 0, 0, scale, 0, 0);
    this.draw();
  }

  draw() {
    if (!this.context) return;
    const style = getComputedStyle(document.documentElement);
    const colour = {};
    for (const name of [...Object.keys(STATES), 'mark', 'mark-dark', 'focus', 'ink']) colour[name] = style.getPropertyValue('--' + name).trim();
    const {context, size, columns} = this;
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    const gap = size > 9 ? 2 : 1;
    const edge = size - gap;
    for (let i = 0; i < this.cells.length; ++i) {
      const state = this.states[this.cells[i]];
      const x = (i % columns) * size, y = Math.floor(i / columns) * size;
      context.fillStyle = context.strokeStyle = colour[state] || colour.waiting;
      if (state === 'waiting') context.strokeRect(x + .5, y + .5, edge - 1, edge - 1);
      else context.fillRect(x, y, edge, edge);
      this.mark(state, x, y, edge, state === 'queued' ? colour['mark-dark'] : colour.mark);
    }
    if (document.activeElement === this.canvas || this.chosen) {
      const x = (this.selected % columns) * size, y = Math.floor(this.selected / columns) * size;
      context.lineWidth = 2;
      context.strokeStyle = colour.focus;
      context.strokeRect(x - 1, y - 1, edge + 2, edge + 2);
      context.lineWidth = 1;
    }
  }

  // The same signs as strokes: legible down to 6 pixels.
  mark(state, x, y, edge, colour) {
    const {context} = this;
    context.strokeStyle = context.fillStyle = colour;
    context.lineWidth = edge > 14 ? 2 : 1;
    const near = edge * .28, far = edge * .72, middle = edge / 2;
    context.beginPath();
    if (state === 'failed') {
      context.moveTo(x + near, y + near); context.lineTo(x + far, y + far); context.moveTo(x + far, y + near); context.lineTo(x + near, y + far);
    } else if (state === 'blocked') {
      context.moveTo(x + far, y + near); context.lineTo(x + near, y + far);
    } else if (state === 'running') {
      context.moveTo(x + near, y + near * .8); context.lineTo(x + far, y + middle); context.lineTo(x + near, y + edge - near * .8); context.fill();
    } else if (state === 'done' && edge > 9) {
      context.moveTo(x + near, y + middle); context.lineTo(x + edge * .44, y + far); context.lineTo(x + far + 1, y + near);
    } else if (state === 'queued') {
      context.fillRect(x + middle - 1, y + middle - 1, 2, 2);
    } else if (state === 'stopped') {
      context.fillRect(x + near, y + near, far - near, far - near);
    } else if (state === 'cancelled') {
      context.moveTo(x + near, y + middle); context.lineTo(x + far, y + middle);
    }
    context.stroke();
    context.lineWidth = 1;
  }

  async select(index) {
    this.selected = Math.max(0, Math.min(this.cells.length - 1, index));
    this.chosen = true;
    this.draw();
    const chosen = this.selected;
    if (!this.cells.length) return;
    const state = this.states[this.cells[chosen]];
    this.output.replaceChildren(`Trial ${chosen}: `, stateText(state));
    clearTimeout(this.timer);
    this.timer = setTimeout(async () => {
      try {
        const trial = await json(`${API}/experiments/${encodeURIComponent(this.experiment)}/trials/${chosen}`);
        if (this.selected !== chosen) return;
        const metrics = trial.metrics ? Object.entries(METRIC_TITLES).filter(([name]) => name in trial.metrics).slice(0, 4)
          .map(([name, title]) => `${title} ${percent(trial.metrics[name])}`).join(', ') : '';
        this.output.replaceChildren(h('a', {href: this.address(chosen)}, `Trial ${chosen}`), `: ${trial.fold}`, trial.label ? `, ${trial.label}` : '', ' – ',
          stateText(trial.state), trial.reason && trial.state !== 'done' ? ` – ${trial.reason}` : '', metrics ? ` – ${metrics}` : '');
      } catch { /* the next choice tries again */ }
    }, 120);
  }

  address(index) { return `#/experiments/${encodeURIComponent(this.experiment)}/trials/${index}`; }

  key(event) {
    const page = this.columns * 10;
    const steps = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.columns, ArrowUp: -this.columns, PageDown: page, PageUp: -page};
    let target = null;
    if (event.key in steps) target = this.selected + steps[event.key];
    else if (event.key === 'Home') target = event.ctrlKey ? 0 : this.selected - this.selected % this.columns;
    else if (event.key === 'End') target = event.ctrlKey ? this.cells.length - 1 : this.selected - this.selected % this.columns + this.columns - 1;
    else if (event.key === 'Enter' && this.cells.length) location.hash = this.address(this.selected);
    if (target === null) return;
    event.preventDefault();
    if (target >= 0 && target < this.cells.length || event.key === 'End' || event.key === 'Home') this.select(target);
  }

  click(event) {
    const box = this.canvas.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left) / this.size), row = Math.floor((event.clientY - box.top) / this.size);
    const index = row * this.columns + column;
    if (column < this.columns && index < this.cells.length) this.select(index);
  }
}

// --- parts -------------------------------------------------------------------------------------------------------------

function resultTable(table) {
  const cell = (one) => {
    const value = one.mean === null ? '–' : one.mean.toFixed(1) + (one.standard_deviation === null ? '' : ` ± ${one.standard_deviation.toFixed(1)}`);
    const partial = one.trials > 1 && one.trials_done < one.trials && one.mean !== null ? ` [${one.trials_done} of ${one.trials}]` : '';
    const paper = typeof one.paper === 'number' ? h('span', {class: 'paper'}, `paper ${one.paper.toFixed(1)}`) : null;
    return h('td', {class: 'number' + (one.best ? ' best' : '')}, value, partial, one.best ? h('span', {class: 'faint', title: 'best of its column'}, ' ★') : null, paper);
  };
  const element = h('div', {class: 'scroll', tabindex: 0, role: 'region', 'aria-label': table.title, 'data-focus': 'table ' + table.title}, h('table', {},
    h('caption', {}, `${table.title} (%)`),
    h('thead', {}, h('tr', {}, h('th', {scope: 'col'}, table.row_heading || ''), table.columns.map((column) => h('th', {scope: 'col', class: 'number'}, column)))),
    h('tbody', {}, table.rows.map((row) => h('tr', {}, h('th', {scope: 'row'}, row.label, row.note ? h('sup', {}, row.note) : null), row.cells.map(cell))))));
  return [element, (table.notes || []).map((note) => h('p', {class: 'faint'}, note))];
}

function stageTable(stages, caption) {
  if (!stages.length) return null;
  return h('div', {class: 'scroll', tabindex: 0, role: 'region', 'aria-label': caption, 'data-focus': caption}, h('table', {class: 'stacked'}, h('caption', {}, caption),
    h('thead', {}, h('tr', {}, ['stage', 'state', 'attempt', 'progress or reason'].map((title) => h('th', {scope: 'col'}, title)))),
    h('tbody', {}, stages.map((stage) => h('tr', {}, h('td', {}, stageLink(stage.stage, stage.label), h('br'), h('span', {class: 'key faint'}, stage.stage)),
      h('td', {}, stateText(stage.state)), h('td', {'data-title': 'attempt'}, stage.attempt || '–'),
      h('td', {class: 'reason', 'data-progress': stage.stage}, stage.state === 'running' ? progressOf(stage.progress) : stage.reason || '–'))))));
}

function progressOf(progress) {
  if (!progress) return 'started';
  return h('span', {}, h('progress', {max: 1, value: progress.done, 'aria-label': 'progress'}), h('br'), progress.text);
}

function showProgress(stages) {
  for (const stage of stages)
    for (const place of main.querySelectorAll(`[data-progress="${stage.stage}"]`)) place.replaceChildren(progressOf({text: stage.progress, done: stage.done}));
}

function metricsTable(metrics, caption) {
  const names = Object.keys(METRIC_TITLES).filter((name) => name in metrics || Object.values(metrics.classes || {}).some((one) => name in one));
  const row = (label, values) => h('tr', {}, h('th', {scope: 'row'}, label), names.map((name) => h('td', {class: 'number'}, percent(values[name]))));
  return h('div', {class: 'scroll', tabindex: 0, role: 'region', 'aria-label': caption}, h('table', {}, h('caption', {}, caption + ' (%)'),
    h('thead', {}, h('tr', {}, h('th', {scope: 'col'}, 'class'), names.map((name) => h('th', {scope: 'col', class: 'number'}, METRIC_TITLES[name])))),
    h('tbody', {}, Object.entries(metrics.classes || {}).map(([name, values]) => row(name, values)), row('mean', metrics),
      metrics.untrained ? row('mean, untrained', metrics.untrained) : null)));
}

// Curves of one stage, live: history first, then the stream from where it ended.
class Curves {
  constructor(key) {
    this.key = key;
    this.charts = new Map();
    this.element = h('div', {class: 'charts'});
    this.empty = h('p', {class: 'faint'}, 'No curve yet.');
    this.element.append(this.empty);
    this.dark = matchMedia('(prefers-color-scheme: dark)');
    this.recolour = () => this.draw(true);
    this.dark.addEventListener('change', this.recolour);
  }

  leave() {
    if (this.stop) this.stop();
    for (const {chart} of this.charts.values()) chart.destroy();
    this.dark.removeEventListener('change', this.recolour);
    this.left = true;
  }

  async start() {
    const {series, last_event_id: lastId} = await json(`${API}/stages/${this.key}/curves?points=500`);
    if (this.left) return;
    for (const one of series) if (one.unit === 'step') for (const [x, y] of one.points) this.add(one.phase, one.name, x, y);
    this.draw();
    this.stop = follow(`${API}/stages/${this.key}/events`, {lastId: lastId || '', onEvent: (event) => this.take(event)});
  }

  take(event) {
    if (this.onEvent) this.onEvent(event);
    if (event.event !== 'step' || !Number.isInteger(event.step)) return;
    for (const [name, value] of Object.entries(event)) {
      if (['seq', 'time', 'step', 'steps', 'epoch', 'epochs', 'epoch_step', 'attempt'].includes(name)) continue;
      if (typeof value === 'number') this.add(event.phase || '', name, event.step, value);
      else if (value && typeof value === 'object')
        for (const [part, number] of Object.entries(value)) if (typeof number === 'number') this.add(event.phase || '', `${name}.${part}`, event.step, number);
    }
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.draw(), 100);
  }

  // loss and its parts on one chart, all else on one each.
  add(phase, name, x, y) {
    const group = name.startsWith('loss') ? 'loss' : name;
    const id = `${phase} ${group}`.trim();
    if (!this.charts.has(id)) this.charts.set(id, {series: new Map()});
    const {series} = this.charts.get(id);
    const label = name.replace(/^losses\./, '');
    if (!series.has(label)) series.set(label, new Map());
    const points = series.get(label);
    points.set(x, y);
    if (points.size > 4000) for (const key of [...points.keys()].filter((_, i) => i % 2)) points.delete(key);
  }

  draw(recolour) {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue('--' + name).trim();
    for (const [id, entry] of this.charts) {
      const datasets = [...entry.series].map(([label, points], i) => ({
        label, data: [...points].sort((a, b) => a[0] - b[0]).map(([x, y]) => ({x, y})), borderColor: colour(`series-${i % 6}`), backgroundColor: colour(`series-${i % 6}`),
        borderWidth: 2, borderDash: [[], [6, 3], [2, 3], [8, 3, 2, 3]][i % 4], pointRadius: points.size > 40 ? 0 : 2, pointStyle: ['circle', 'triangle', 'rect', 'star'][i % 4],
      }));
      if (!entry.chart) {
        this.empty.remove();
        entry.canvas = h('canvas', {role: 'img'});
        entry.caption = h('figcaption', {});
        const figure = h('figure', {}, h('h3', {}, id), h('div', {class: 'plot'}, entry.canvas), entry.caption);
        if (id.endsWith('loss')) this.element.prepend(figure);
        else this.element.append(figure);
        entry.chart = new Chart(entry.canvas, {type: 'line', data: {datasets}, options: {
          animation: false, responsive: true, maintainAspectRatio: false, parsing: false, interaction: {mode: 'nearest', intersect: false},
          scales: {x: {type: 'linear', title: {display: true, text: 'step'}, ticks: {precision: 0}}, y: {title: {display: false}}},
          plugins: {legend: {labels: {usePointStyle: true, pointStyleWidth: 14, boxHeight: 7}}},
        }});
        recolour = true;
      }
      entry.chart.data.datasets = datasets;
      if (recolour) {
        for (const scale of Object.values(entry.chart.options.scales)) {
          scale.ticks = {...scale.ticks, color: colour('faint')};
          scale.grid = {color: colour('line')};
          scale.title = {...scale.title, color: colour('faint')};
        }
        entry.chart.options.plugins.legend.labels.color = colour('ink');
      }
      entry.chart.update('none');
      const words = datasets.map(({label, data}) => `${label} ${data[0].y.toPrecision(4)} at step ${data[0].x}, ${data[data.length - 1].y.toPrecision(4)} at step ${
        data[data.length - 1].x}, lowest ${Math.min(...data.map((point) => point.y)).toPrecision(4)}`).join('; ');
      entry.canvas.setAttribute('aria-label', `${id}: ${words}`);
      entry.caption.textContent = words;
    }
  }
}

// Pictures need the token too, which <img src> cannot send.
class HeatMaps {
  constructor(key) {
    this.key = key;
    this.element = h('div', {});
    this.addresses = [];
  }

  leave() {
    this.left = true;
    for (const address of this.addresses) URL.revokeObjectURL(address);
  }

  async start() {
    const base = `${API}/stages/${this.key}/artifacts`;
    const {artifacts} = await json(base);
    const path = (file) => base + '/' + file.split('/').map(encodeURIComponent).join('/');
    const maps = artifacts.filter((one) => one.path.startsWith('heat_maps/') && one.media_type === 'image/png').map((one) => one.path);
    let readings = {};
    if (artifacts.some((one) => one.path === 'interpretations.json')) readings = await json(path('interpretations.json'));
    const words = new Map();
    for (const images of Object.values(readings)) for (const [image, ranked] of Object.entries(images)) words.set(image.replaceAll('/', '_').replace(/\.\w+$/, ''), ranked);
    const box = h('div', {class: 'maps'});
    let shown = 0;
    const more = h('button', {onclick: () => show()}, 'Show more');
    const show = async () => {
      const some = maps.slice(shown, shown + 12);
      shown += some.length;
      more.hidden = shown >= maps.length;
      for (const file of some) {
        const [, group, name] = file.split('/');
        const best = (words.get((name || group).replace(/\.png$/, '')) || [])[0];
        const image = h('img', {alt: `Heat map of ${file.slice(10)}`});
        box.append(h('figure', {}, image, h('figcaption', {}, file.slice(10), best ? h('span', {}, h('br'), `most like: ${best.description}, ${best.position}`) : null)));
        const blob = await (await request(path(file))).blob();
        if (this.left) return;
        this.addresses.push(URL.createObjectURL(blob));
        image.src = this.addresses[this.addresses.length - 1];
      }
    };
    this.element.replaceChildren(maps.length ? h('p', {class: 'faint'}, `${plural(maps.length, 'heat map')}; the image beside its anomaly map.`) : h('p', {class: 'faint'}, 'No heat map.'), box, more);
    await show();
  }
}

class Log {
  constructor(key, attempt) {
    this.path = `${API}/stages/${key}/attempts/${attempt}/log`;
    this.text = h('pre', {class: 'text', tabindex: 0, role: 'log', 'aria-label': 'Log', 'aria-live': 'off'});
    this.box = h('input', {type: 'checkbox', checked: true, id: 'follow-log'});
    this.note = h('span', {class: 'faint'});
    this.element = h('div', {}, h('div', {class: 'pager'}, h('label', {for: 'follow-log'}, this.box, ' follow'), this.note), this.text);
    this.end = 0;
  }

  leave() { clearTimeout(this.timer); this.left = true; }

  async start() {
    await this.read('?tail=500');
    this.next();
  }

  next() {
    if (this.left || this.ended) return;
    this.timer = setTimeout(async () => {
      try { if (this.box.checked) await this.read(`?offset=${this.end}&limit=262144`); } catch { /* offline: the next one may do */ }
      this.next();
    }, 1500);
  }

  async read(query) {
    const response = await request(this.path + query);
    const text = await response.text();
    const start = Number(response.headers.get('Filo-Log-Offset'));
    const total = Number(response.headers.get('Filo-Log-Bytes'));
    const length = Number(response.headers.get('Content-Length') || new Blob([text]).size);
    this.end = start + length;
    this.ended = response.headers.get('Filo-Ended') === 'true' && this.end >= total;
    this.text.append(text);
    const lines = this.text.textContent.split('\n');
    if (lines.length > 5000) this.text.textContent = lines.slice(-4000).join('\n');
    if (this.box.checked && text) this.text.scrollTop = this.text.scrollHeight;
    this.box.parentElement.hidden = this.ended;
    this.note.textContent = (this.ended ? 'ended, ' : 'still being written, ') + bytesText(total) + (total === 0 ? ' (nothing in it)' : '');
  }
}

// --- views -------------------------------------------------------------------------------------------------------------

function experimentsView() {
  const list = h('div', {class: 'cards'});
  const note = h('p', {class: 'faint'});
  main.replaceChildren(h('h1', {}, 'Experiments'), note, list);
  return {
    title: 'experiments',
    async refresh() {
      const all = await json(API + '/experiments');
      note.textContent = `Workspace ${all.workspace}, filo ${all.version}`;
      showProblem(all.problem);
      replaceIfChanged(list, all.experiments.length ? all.experiments.map((one) => h('article', {class: 'card'},
        h('h2', {}, h('a', {href: '#/experiments/' + encodeURIComponent(one.name), 'data-focus': one.name}, one.name)), progressBar(one.trials),
        h('p', {}, countsText(one.trials, 'trial')), h('p', {class: 'faint'}, countsText(one.stages, 'stage')),
        h('p', {class: 'faint'}, one.active ? 'looked after by a coordinator' : 'not active: filo submit hands it over')))
        : h('p', {}, 'No experiment has been run or submitted in this workspace yet.'));
    },
  };
}

function experimentView(name) {
  const path = `${API}/experiments/${encodeURIComponent(name)}`;
  const grid = new Grid(name);
  const [summary, chips, tables, running, troubles, trials, settings] = ['div', 'ul', 'div', 'div', 'div', 'div', 'pre'].map((tag) => h(tag));
  chips.className = 'chips';
  tables.className = 'tables';
  settings.className = 'text';
  settings.tabIndex = 0;
  const filter = {state: '', offset: 0, limit: 50};
  const actions = h('div', {class: 'actions'},
    actionButton('Cancel experiment', true, `Cancel ${name}?`, 'What runs is ended at once, and what no other active experiment needs is not started. Retry takes it up again.', path + '/cancel'),
    actionButton('Retry failed', false, `Retry ${name}?`, 'Failed, stopped and cancelled stages are tried again; earlier failures no longer count.', path + '/retry'));
  main.replaceChildren(h('nav', {class: 'trail', 'aria-label': 'Where you are'}, h('a', {href: '#/'}, 'Experiments'), ' › '), h('h1', {}, name), summary, actions,
    h('h2', {id: 'trials-title'}, 'Trials'), chips, grid.element, tables, running, troubles, h('h2', {}, 'List of trials'), trials,
    h('details', {}, h('summary', {}, 'Settings'), settings));

  const showChips = (progress) => replaceIfChanged(chips, Object.keys(STATES).filter((state) => progress.states[state]).map((state) => h('li', {}, h('button', {
    class: 'chip', 'data-focus': 'chip ' + state, 'aria-pressed': String(filter.state === state), title: `List trials that are ${state}`,
    onclick: () => { filter.state = filter.state === state ? '' : state; filter.offset = 0; showChips(progress); showTrials(); },
  }, sign(state), `${progress.states[state].toLocaleString('en')} ${state}`))));

  const turn = (label, offset, possible) => h('button', {disabled: !possible, 'data-focus': label, onclick: () => { filter.offset = offset; showTrials(); }}, label);
  const showTrials = async () => {
    const found = await json(`${path}/trials?offset=${filter.offset}&limit=${filter.limit}` + (filter.state ? `&state=${filter.state}` : ''));
    replaceIfChanged(trials, h('div', {class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'List of trials', 'data-focus': 'trials'}, h('table', {class: 'stacked'},
      h('thead', {}, h('tr', {}, ['trial', 'state', 'fold', 'settings'].map((title) => h('th', {scope: 'col'}, title)),
        ['image AUROC', 'pixel AUROC'].map((title) => h('th', {scope: 'col', class: 'number'}, title)))),
      h('tbody', {}, found.trials.map((trial) => h('tr', {}, h('td', {'data-title': 'trial'}, h('a', {href: grid.address(trial.trial)}, trial.trial)),
        h('td', {class: 'reason'}, stateText(trial.state), trial.reason && trial.state !== 'done' ? h('div', {class: 'faint'}, trial.reason) : null),
        h('td', {class: 'nowrap'}, trial.fold), h('td', {}, trial.label || '–'),
        h('td', {class: 'number', 'data-title': 'image AUROC'}, percent(trial.metrics && trial.metrics.image_auroc)),
        h('td', {class: 'number', 'data-title': 'pixel AUROC'}, percent(trial.metrics && trial.metrics.pixel_auroc))))))),
    h('div', {class: 'pager'}, found.total ? `${filter.offset + 1}–${Math.min(found.total, filter.offset + filter.limit)} of ${plural(found.total, 'trial')}` : 'None',
      filter.state ? ` that ${found.total === 1 ? 'is' : 'are'} ${filter.state}` : '',
      turn('Earlier', Math.max(0, filter.offset - filter.limit), filter.offset > 0), turn('Later', filter.offset + filter.limit, filter.offset + filter.limit < found.total)));
  };

  return {
    title: name,
    progress: showProgress,
    leave: () => grid.leave(),
    async refresh() {
      const [experiment, cells, found] = await Promise.all([json(path), jsonIfNew(path + '/grid'), jsonIfNew(path + '/tables')]);
      replaceIfChanged(summary, progressBar(experiment.trials), h('p', {}, countsText(experiment.trials, 'trial'), '. ', countsText(experiment.stages, 'stage'), '. ',
        experiment.active ? 'A coordinator looks after it.' : 'Not active.'));
      showChips(experiment.trials);
      grid.show(cells);
      replaceIfChanged(tables, h('h2', {}, 'Tables'), found.tables.map(resultTable));
      replaceIfChanged(running, experiment.running.length ? h('h2', {}, 'Running') : null, stageTable(experiment.running, 'Stages that run'));
      replaceIfChanged(troubles, experiment.troubles.length ? h('h2', {}, 'In trouble') : null, stageTable(experiment.troubles, 'Stages that failed, and why'));
      settings.textContent = JSON.stringify(experiment.settings, null, 2);
      await showTrials();
    },
  };
}

function trialView(name, number) {
  const [facts, metrics, curves, maps] = ['div', 'div', 'div', 'div'].map((tag) => h(tag));
  const address = '#/experiments/' + encodeURIComponent(name);
  main.replaceChildren(h('nav', {class: 'trail', 'aria-label': 'Where you are'}, h('a', {href: '#/'}, 'Experiments'), ' › ', experimentLink(name), ' › '),
    h('h1', {}, `Trial ${number}`), facts, metrics, curves, maps);
  const parts = {};
  return {
    title: `trial ${number} of ${name}`,
    progress: showProgress,
    leave: () => Object.values(parts).forEach((part) => part.leave()),
    async refresh() {
      const trial = await json(`${API}/experiments/${encodeURIComponent(name)}/trials/${number}`);
      const stages = await Promise.all([trial.train, trial.evaluate].filter(Boolean).map((key) => json(`${API}/stages/${key}`)));
      const evaluate = stages[stages.length - 1];
      replaceIfChanged(facts, h('p', {}, stateText(trial.state), ` – ${trial.fold}`, trial.label ? `, ${trial.label}` : ''),
        trial.reason && trial.state !== 'done' ? h('p', {role: 'note'}, trial.reason) : null, stageTable(stages, 'Stages of this trial'),
        h('div', {class: 'pager'}, Number(number) > 0 ? h('a', {href: `${address}/trials/${Number(number) - 1}`}, '‹ trial before') : null, h('a', {href: `${address}/trials/${Number(number) + 1}`}, 'trial after ›')));
      replaceIfChanged(metrics, evaluate.result ? [h('h2', {}, 'Metrics'), metricsTable(evaluate.result.metrics, 'By class')] : null);
      if (!parts.curves && trial.train && stages[0].attempt > 0) {
        parts.curves = new Curves(trial.train);
        curves.replaceChildren(h('h2', {}, 'Training'), parts.curves.element);
        await parts.curves.start();
      }
      if (!parts.maps && evaluate.result) {
        parts.maps = new HeatMaps(trial.evaluate);
        maps.replaceChildren(h('h2', {}, 'Heat maps'), parts.maps.element);
        await parts.maps.start();
      }
    },
  };
}

function stageView(key) {
  const [title, facts, attempts, curves, log, maps, files, spec] = ['h1', 'div', 'div', 'div', 'div', 'div', 'div', 'pre'].map((tag) => h(tag));
  const path = `${API}/stages/${key}`;
  title.textContent = key;
  const actions = h('div', {class: 'actions'});
  spec.className = 'text';
  spec.tabIndex = 0;
  main.replaceChildren(h('nav', {class: 'trail', 'aria-label': 'Where you are'}, h('a', {href: '#/'}, 'Experiments'), ' › '), title, facts,
    actions,
    curves, log, maps, attempts, files, h('details', {}, h('summary', {}, 'Settings of this stage'), spec));
  actions.append(
      actionButton('Cancel stage', true, 'Cancel this stage?', 'It is ended at once if it runs, and not started again until it is retried. What needs it is blocked.', path + '/cancel'),
      actionButton('Retry stage', false, 'Retry this stage?', 'It is started again; earlier failures no longer count.', path + '/retry'));
  const parts = {};
  let shownAttempt = 0;
  return {
    title: `stage ${key}`,
    progress: showProgress,
    leave: () => Object.values(parts).forEach((part) => part.leave()),
    async refresh() {
      const [stage, tries] = await Promise.all([json(path), json(path + '/attempts')]);
      title.textContent = stage.label;
      actions.hidden = stage.state === 'done';
      replaceIfChanged(facts, h('dl', {class: 'facts'},
        [['state', stateText(stage.state)],
          ['reason', stage.reason], ['progress', stage.state === 'running' ? h('span', {'data-progress': key}, progressOf(stage.progress)) : ''],
          ['where', stage.where || ''], ['stage', h('code', {}, key)], ['kind', stage.kind],
          ['attempts', `${stage.attempt}; of those that count: ` + ['failures', 'timeouts', 'out_of_memory', 'requeues'].map((one) => `${stage.counts[one]} of at most ${stage.limits[one]} ${one.replace(/_/g, ' ')}`).join(', ')],
          ['asked for', stage.request ? `${stage.request.want}: ${stage.request.reason || ''}` : ''],
          ['needs', stage.inputs.length ? stage.inputs.map((one, i) => [i ? ', ' : '', stageLink(one.stage, one.label), ' ', stateText(one.state)]) : ''],
          ['experiments', stage.experiments.map((one, i) => [i ? ', ' : '', experimentLink(one)])],
          ['resources', Object.entries(stage.resources).map(([name, value]) => `${name} ${value}`).join(', ')],
          ['took', stage.result ? `${stage.result.seconds.toFixed(1)} s` : '']].filter(([, value]) => value && String(value).length)
          .map(([name, value]) => [h('dt', {}, name), h('dd', {}, value)])),
      stage.result && stage.result.metrics.classes ? metricsTable(stage.result.metrics, 'Metrics by class') : null);
      replaceIfChanged(attempts, h('h2', {}, 'Attempts'), tries.attempts.length ? h('div', {class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Attempts'}, h('table', {class: 'stacked'},
        h('thead', {}, h('tr', {}, ['attempt', 'outcome', 'reason', 'where', 'ended', 'log'].map((one) => h('th', {scope: 'col'}, one)))),
        h('tbody', {}, tries.attempts.map((one) => h('tr', {}, h('td', {'data-title': 'attempt'}, one.attempt), h('td', {}, one.end ? one.end.outcome : 'not ended'), h('td', {class: 'reason'}, one.end ? one.end.reason || '–' : '–'),
          h('td', {}, (one.claim && one.claim.host) || '–'), h('td', {}, at(one.ended)), h('td', {class: 'nowrap'}, bytesText(one.log_bytes))))))) : h('p', {class: 'faint'}, 'None yet.'));
      spec.textContent = JSON.stringify(stage.spec, null, 2);
      if (stage.attempt > 0 && stage.attempt !== shownAttempt) {
        shownAttempt = stage.attempt;
        if (parts.log) parts.log.leave();
        parts.log = new Log(key, stage.attempt);
        log.replaceChildren(h('h2', {}, `Log of attempt ${stage.attempt}`), parts.log.element);
        await parts.log.start();
      }
      if (!parts.curves && stage.attempt > 0 && stage.kind === 'train') {
        parts.curves = new Curves(key);
        curves.replaceChildren(h('h2', {}, 'Curves'), parts.curves.element);
        await parts.curves.start();
      }
      if (!parts.maps && stage.result && stage.kind === 'evaluate') {
        parts.maps = new HeatMaps(key);
        maps.replaceChildren(h('h2', {}, 'Heat maps'), parts.maps.element);
        await parts.maps.start();
      }
      if (stage.result) {
        const {artifacts} = await json(path + '/artifacts');
        const others = artifacts.filter((one) => !one.path.startsWith('heat_maps/'));
        replaceIfChanged(files, others.length ? h('h2', {}, 'Files') : null, others.length ? h('ul', {}, others.map((one) => h('li', {}, h('button', {'data-focus': one.path, onclick: () => download(path, one.path)}, one.path), ` ${bytesText(one.bytes)}`))) : null);
      }
    },
  };
}

async function download(path, file) {
  try {
    const blob = await (await request(`${path}/artifacts/${file.split('/').map(encodeURIComponent).join('/')}`)).blob();
    const address = URL.createObjectURL(blob);
    h('a', {href: address, download: file.split('/').pop()}).click();
    setTimeout(() => URL.revokeObjectURL(address), 60000);
  } catch (problem) {
    showProblem(`${file}: ${problem.message}`);
  }
}

// --- routes ------------------------------------------------------------------------------------------------------------

function leave() {
  if (view && view.leave) view.leave();
  view = null;
}

async function route() {
  if (takeTokenFromAddress()) return start();
  if (!session.token) return askForToken();
  leave();
  asking = false;
  showProblem('');
  const parts = location.hash.replace(/^#\/?/, '').split('/').map(decodeURIComponent);
  if (parts[0] === 'experiments' && parts[2] === 'trials' && /^\d+$/.test(parts[3])) view = trialView(parts[1], parts[3]);
  else if (parts[0] === 'experiments' && parts[1]) view = experimentView(parts[1]);
  else if (parts[0] === 'stages' && /^[0-9a-f]{16}$/.test(parts[1])) view = stageView(parts[1]);
  else view = experimentsView();
  document.title = `${view.title} – FiLo++`;
  window.scrollTo(0, 0);
  const current = view;
  try {
    await current.refresh();
    document.documentElement.dataset.ready = location.hash;
  } catch (problem) {
    if (view === current && problem instanceof Refused && problem.status !== 401) main.append(h('p', {role: 'alert'}, problem.message));
  }
}

function start() {
  followWorkspace();
  route();
}

window.addEventListener('hashchange', route);
if (takeTokenFromAddress() || session.token) start();
else askForToken();
