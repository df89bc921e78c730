// The list of an experiment's trials, a page of it at a time.

import {experimentPath, json} from './api.js';
import {h, replaceIfChanged} from './dom.js';
import {METRIC_TITLES, percent, plural} from './format.js';
import {trialAddress} from './links.js';
import {stateText} from './state.js';
import {headings, scrolling, stacked} from './tables.js';

const LISTED = ['image_auroc', 'pixel_auroc'];
const TITLES = LISTED.map((name) => METRIC_TITLES[name]);
const LIMIT = 50;

export class TrialList {
  constructor(experiment) {
    this.experiment = experiment;
    this.state = '';  // only trials in this state; "": all
    this.offset = 0;
    this.element = h('div');
  }

  choose(state) {
    this.state = state;
    this.turnTo(0);
  }

  turnTo(offset) {
    this.offset = offset;
    this.refresh();
  }

  async refresh() {
    const only = this.state ? `&state=${this.state}` : '';
    const query = `?offset=${this.offset}&limit=${LIMIT}${only}`;
    const {trials, total} = await json(`${experimentPath(this.experiment)}/trials${query}`);
    const head = headings(['trial', 'state', 'fold', 'settings'], TITLES);
    const table = stacked('', head, trials.map((trial) => this.row(trial)));
    replaceIfChanged(this.element, scrolling('List of trials', table, 'trials'), this.pager(total));
  }

  row(trial) {
    const {state, reason} = trial;
    const metric = (name, i) =>
      h('td', {class: 'number', 'data-title': TITLES[i]}, percent(trial.metrics && trial.metrics[name]));
    return h(
      'tr',
      {},
      h('td', {'data-title': 'trial'}, h('a', {href: trialAddress(this.experiment, trial.trial)}, trial.trial)),
      h('td',
        {class: 'reason'},
        stateText(state),
        reason && state !== 'done' ? h('div', {class: 'faint'}, reason) : null),
      h('td', {class: 'nowrap'}, trial.fold),
      h('td', {}, trial.label || '–'),
      LISTED.map(metric)
    );
  }

  pager(total) {
    const {offset, state} = this;
    const end = offset + LIMIT;
    const turn = (label, to, possible) => {
      const button = {disabled: !possible, 'data-focus': label, onclick: () => this.turnTo(to)};
      return h('button', button, label);
    };
    return h(
      'div',
      {class: 'pager'},
      total ? `${offset + 1}–${Math.min(total, end)} of ${plural(total, 'trial')}` : 'None',
      state ? ` that ${total === 1 ? 'is' : 'are'} ${state}` : '',
      turn('Earlier', Math.max(0, offset - LIMIT), offset > 0),
      turn('Later', end, end < total)
    );
  }
}
