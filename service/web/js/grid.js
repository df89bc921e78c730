// The grid of trials: one canvas however many there are. Arrow keys move, Enter opens, and the line below says in words
// what the chosen cell shows.

import {experimentPath, json} from './api.js';
import {colour, h, onColourScheme} from './dom.js';
import {METRIC_TITLES, percent, STATES} from './format.js';
import {trialAddress} from './links.js';
import {drawMark} from './marks.js';
import {stateText} from './state.js';

function metricsInWords(metrics) {
  const known = Object.entries(METRIC_TITLES).filter(([name]) => name in (metrics || {}));
  return known.slice(0, 4).map(([name, title]) => `${title} ${percent(metrics[name])}`).join(', ');
}

export class Grid {
  constructor(experiment) {
    this.experiment = experiment;
    this.cells = [];  // of each trial the position of its state in `states`
    this.states = [];
    this.selected = 0;
    this.canvas = h('canvas', {
      tabindex: 0,
      role: 'application',
      id: 'grid',
      'aria-label': 'Grid of trials. Arrow keys move, Enter opens the trial.',
      'aria-describedby': 'grid-cell',
      onkeydown: (event) => this.key(event),
      onclick: (event) => this.click(event),
      onfocus: () => this.select(this.selected),
      onblur: () => this.draw(),
    });
    this.output = h('output', {id: 'grid-cell', 'aria-live': 'polite'});
    this.element = h('div', {class: 'grid-box'}, this.canvas, this.output);
    this.observer = new ResizeObserver(() => this.layout());
    this.observer.observe(this.element);
    this.endColours = onColourScheme(() => this.draw());
  }

  leave() {
    this.observer.disconnect();
    this.endColours();
  }

  show({states, cells}) {
    const resized = cells.length !== this.cells.length;
    this.states = states;
    this.cells = cells;
    if (resized)
      this.layout();
    else
      this.draw();
    if (!this.output.textContent)
      this.output.textContent = 'Choose a cell with the pointer or the arrow keys to see its trial.';
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

  place(index) {
    return [(index % this.columns) * this.size, Math.floor(index / this.columns) * this.size];
  }

  draw() {
    if (!this.context) return;
    const names = [...Object.keys(STATES), 'mark', 'mark-dark', 'focus'];
    const colours = Object.fromEntries(names.map((name) => [name, colour(name)]));
    const {context, size} = this;
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    const edge = size - (size > 9 ? 2 : 1);
    for (let i = 0; i < this.cells.length; ++i) {
      const state = this.states[this.cells[i]];
      const [x, y] = this.place(i);
      context.fillStyle = context.strokeStyle = colours[state] || colours.waiting;
      if (state === 'waiting')
        context.strokeRect(x + 0.5, y + 0.5, edge - 1, edge - 1);
      else
        context.fillRect(x, y, edge, edge);
      drawMark(context, state, x, y, edge, state === 'queued' ? colours['mark-dark'] : colours.mark);
    }
    if (document.activeElement === this.canvas || this.chosen) this.drawFocus(edge, colours.focus);
  }

  drawFocus(edge, focusColour) {
    const {context} = this;
    const [x, y] = this.place(this.selected);
    context.lineWidth = 2;
    context.strokeStyle = focusColour;
    context.strokeRect(x - 1, y - 1, edge + 2, edge + 2);
    context.lineWidth = 1;
  }

  select(index) {
    this.selected = Math.max(0, Math.min(this.cells.length - 1, index));
    this.chosen = true;
    this.draw();
    if (!this.cells.length) return;
    const chosen = this.selected;
    this.output.replaceChildren(`Trial ${chosen}: `, stateText(this.states[this.cells[chosen]]));
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.describe(chosen), 120);
  }

  async describe(chosen) {
    let trial = null;
    try {
      trial = await json(`${experimentPath(this.experiment)}/trials/${chosen}`);
    } catch {
      return;  // the next choice tries again
    }
    if (this.selected !== chosen) return;
    const metrics = metricsInWords(trial.metrics);
    this.output.replaceChildren(
      h('a', {href: trialAddress(this.experiment, chosen)}, `Trial ${chosen}`),
      `: ${trial.fold}`,
      trial.label ? `, ${trial.label}` : '',
      ' – ',
      stateText(trial.state),
      trial.reason && trial.state !== 'done' ? ` – ${trial.reason}` : '',
      metrics ? ` – ${metrics}` : ''
    );
  }

  key(event) {
    const {columns, selected} = this;
    const steps = {
      ArrowRight: 1,
      ArrowLeft: -1,
      ArrowDown: columns,
      ArrowUp: -columns,
      PageDown: columns * 10,
      PageUp: -columns * 10,
    };
    const rowBegin = selected - selected % columns;
    const toAnEnd = event.key === 'Home' || event.key === 'End';
    let target = null;
    if (event.key in steps)
      target = selected + steps[event.key];
    else if (event.key === 'Home')
      target = event.ctrlKey ? 0 : rowBegin;
    else if (event.key === 'End')
      target = event.ctrlKey ? this.cells.length - 1 : rowBegin + columns - 1;
    else if (event.key === 'Enter' && this.cells.length)
      location.hash = trialAddress(this.experiment, selected);
    if (target === null) return;
    event.preventDefault();
    if (toAnEnd || (target >= 0 && target < this.cells.length)) this.select(target);
  }

  click(event) {
    const box = this.canvas.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left) / this.size);
    const row = Math.floor((event.clientY - box.top) / this.size);
    const index = row * this.columns + column;
    if (column < this.columns && index < this.cells.length) this.select(index);
  }
}
