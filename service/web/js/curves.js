// The curves of one stage, live: history first, then the stream from where it ended.

import {json, stagePath} from './api.js';
import {colour, h, onColourScheme} from './dom.js';
import {follow} from './stream.js';

const BOOKKEEPING = ['seq', 'time', 'step', 'steps', 'epoch', 'epochs', 'epoch_step', 'attempt'];
const DASHES = [[], [6, 3], [2, 3], [8, 3, 2, 3]];
const POINTS = ['circle', 'triangle', 'rect', 'star'];
const MOST_POINTS = 4000;

function newChart(canvas) {
  const options = {
    animation: false,
    responsive: true,
    maintainAspectRatio: false,
    parsing: false,
    interaction: {mode: 'nearest', intersect: false},
    scales: {
      x: {type: 'linear', title: {display: true, text: 'step'}, ticks: {precision: 0}},
      y: {title: {display: false}},
    },
    plugins: {legend: {labels: {usePointStyle: true, pointStyleWidth: 14, boxHeight: 7}}},
  };
  return new Chart(canvas, {type: 'line', data: {datasets: []}, options});  // of chart.js, loaded by index.html
}

function recolour(chart) {
  for (const scale of Object.values(chart.options.scales)) {
    scale.ticks = {...scale.ticks, color: colour('faint')};
    scale.grid = {color: colour('line')};
    scale.title = {...scale.title, color: colour('faint')};
  }
  chart.options.plugins.legend.labels.color = colour('ink');
}

// `points`: a Map of step to value.
function datasetOf(label, points, position) {
  const line = colour(`series-${position % 6}`);
  return {
    label,
    data: [...points].sort((a, b) => a[0] - b[0]).map(([x, y]) => ({x, y})),
    borderColor: line,
    backgroundColor: line,
    borderWidth: 2,
    borderDash: DASHES[position % DASHES.length],
    pointRadius: points.size > 40 ? 0 : 2,
    pointStyle: POINTS[position % POINTS.length],
  };
}

function inWords({label, data}) {
  const first = data[0];
  const last = data[data.length - 1];
  const lowest = Math.min(...data.map((point) => point.y));
  const at = (point) => `${point.y.toPrecision(4)} at step ${point.x}`;
  return `${label} ${at(first)}, ${at(last)}, lowest ${lowest.toPrecision(4)}`;
}

export class Curves {
  constructor(key) {
    this.key = key;
    // "main loss" -> {series: name -> Map of step to value; once drawn: chart, canvas, caption}
    this.charts = new Map();
    this.empty = h('p', {class: 'faint'}, 'No curve yet.');
    this.element = h('div', {class: 'charts'}, this.empty);
    this.endColours = onColourScheme(() => this.draw(true));
  }

  leave() {
    if (this.stop) this.stop();
    clearTimeout(this.timer);
    for (const {chart} of this.charts.values())
      if (chart) chart.destroy();
    this.endColours();
    this.left = true;
  }

  async start() {
    const {series, last_event_id: lastId} = await json(`${stagePath(this.key)}/curves?points=500`);
    if (this.left) return;
    for (const {unit, phase, name, points} of series)
      if (unit === 'step')
        for (const [x, y] of points) this.add(phase, name, x, y);
    this.draw();
    this.stop = follow(`${stagePath(this.key)}/events`, {lastId: lastId || '', onEvent: (event) => this.take(event)});
  }

  take(event) {
    if (event.event !== 'step' || !Number.isInteger(event.step)) return;
    const add = (name, value) => {
      if (typeof value === 'number') this.add(event.phase || '', name, event.step, value);
    };
    for (const [name, value] of Object.entries(event)) {
      if (BOOKKEEPING.includes(name)) continue;
      add(name, value);
      if (value && typeof value === 'object')
        for (const [part, number] of Object.entries(value)) add(`${name}.${part}`, number);
    }
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.draw(), 100);
  }

  // The loss and its parts on one chart, all else on one each.
  add(phase, name, x, y) {
    const id = `${phase} ${name.startsWith('loss') ? 'loss' : name}`.trim();
    if (!this.charts.has(id)) this.charts.set(id, {series: new Map()});
    const {series} = this.charts.get(id);
    const label = name.replace(/^losses\./, '');
    if (!series.has(label)) series.set(label, new Map());
    const points = series.get(label);
    points.set(x, y);
    if (points.size > MOST_POINTS)
      for (const step of [...points.keys()].filter((_, i) => i % 2)) points.delete(step);
  }

  draw(coloursChanged = false) {
    for (const [id, entry] of this.charts) {
      const fresh = !entry.chart;
      if (fresh) this.place(id, entry);
      entry.chart.data.datasets = [...entry.series].map(([label, points], i) => datasetOf(label, points, i));
      if (fresh || coloursChanged) recolour(entry.chart);
      entry.chart.update('none');
      const words = entry.chart.data.datasets.map(inWords).join('; ');
      entry.canvas.setAttribute('aria-label', `${id}: ${words}`);
      entry.caption.textContent = words;
    }
  }

  place(id, entry) {
    this.empty.remove();
    entry.canvas = h('canvas', {role: 'img'});
    entry.caption = h('figcaption', {});
    const figure = h('figure', {}, h('h3', {}, id), h('div', {class: 'plot'}, entry.canvas), entry.caption);
    if (id.endsWith('loss'))
      this.element.prepend(figure);
    else
      this.element.append(figure);
    entry.chart = newChart(entry.canvas);
  }
}
