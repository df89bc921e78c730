// How the state and the progress of stages and trials look.

import {h, main} from './dom.js';
import {countsText, STATES} from './format.js';

export const sign = (state) => h('span', {class: 'sign ' + state, 'aria-hidden': 'true'}, STATES[state] || '?');
export const stateText = (state) => h('span', {class: 'state'}, sign(state), state);

export function progressBar(progress) {
  const bar = h('div', {class: 'bar', role: 'img', 'aria-label': countsText(progress, 'trial')});
  for (const state of ['done', 'running', 'queued', 'stopped', 'cancelled', 'blocked', 'failed', 'waiting']) {
    const number = progress.states[state] || 0;
    if (!number) continue;
    const part = h('span', {class: state});
    part.style.flexGrow = number;
    bar.append(part);
  }
  return bar;
}

export function progressOf(progress) {
  if (!progress) return 'started';
  const bar = h('progress', {max: 1, value: progress.done, 'aria-label': 'progress'});
  return h('span', {}, bar, h('br'), progress.text);
}

// The news of an event "progress", wherever on the page one of its stages is shown.
export function showProgress(stages) {
  for (const stage of stages)
    for (const place of main.querySelectorAll(`[data-progress="${stage.stage}"]`))
      place.replaceChildren(progressOf({text: stage.progress, done: stage.done}));
}
