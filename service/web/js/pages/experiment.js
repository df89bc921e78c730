// #/experiments/NAME: one experiment, its grid, tables and troubles.

import {actionButton} from '../actions.js';
import {experimentPath, json, jsonIfNew} from '../api.js';
import {h, main, replaceIfChanged} from '../dom.js';
import {count, countsText, STATES} from '../format.js';
import {Grid} from '../grid.js';
import {trail} from '../links.js';
import {progressBar, showProgress, sign} from '../state.js';
import {resultTable, stageTable} from '../tables.js';
import {TrialList} from '../trial_list.js';

// What nobody looks after is not started anyway: of that only what runs, or is about to, can be cancelled.
function canBeCancelled({active, stages}) {
  const left = active ? ['waiting', 'queued', 'running'] : ['queued', 'running'];
  return left.some((state) => stages.states[state]);
}

// What was given up; and what nobody looks after though it is not done.
function canBeRetried({active, stages}) {
  const left = active ? [] : ['waiting', 'queued'];
  return ['failed', 'stopped', 'cancelled', 'blocked', ...left].some((state) => stages.states[state]);
}

function actionsOf(name) {
  const path = experimentPath(name);
  const cancel = {
    label: 'Cancel experiment',
    dangerous: true,
    question: `Cancel ${name}?`,
    text:
      'What runs is ended at once, and what no other active experiment needs is not started. Retry takes it up again.',
    path: path + '/cancel',
  };
  const retry = {
    label: 'Retry failed',
    question: `Retry ${name}?`,
    text: 'Failed, stopped and cancelled stages are tried again; earlier failures no longer count.',
    path: path + '/retry',
  };
  return [actionButton(cancel), actionButton(retry)];
}

// Buttons with the number of trials in each state, which choose what the list below shows.
function stateChips(progress, list, redraw) {
  return Object.keys(STATES).filter((state) => progress.states[state]).map((state) => {
    const button = {
      class: 'chip',
      'data-focus': 'chip ' + state,
      'aria-pressed': String(list.state === state),
      title: `List trials that are ${state}`,
      onclick: () => {
        list.choose(list.state === state ? '' : state);
        redraw();
      },
    };
    return h('li', {}, h('button', button, sign(state), `${count(progress.states[state])} ${state}`));
  });
}

function summaryOf(experiment) {
  const counts = `${countsText(experiment.trials, 'trial')}. ${countsText(experiment.stages, 'stage')}. `;
  const who = experiment.active ? 'A coordinator looks after it.' : 'Not active.';
  return [progressBar(experiment.trials), h('p', {}, counts, who)];
}

const titled = (title, stages, caption) => stages.length ? [h('h2', {}, title), stageTable(stages, caption)] : [];

export function experimentPage(name) {
  const path = experimentPath(name);
  const grid = new Grid(name);
  const list = new TrialList(name);
  const [summary, tables, running, troubles] = ['div', 'div', 'div', 'div'].map((tag) => h(tag));
  const chips = h('ul', {class: 'chips'});
  tables.className = 'tables';
  const settings = h('pre', {class: 'text', tabindex: 0});
  const [cancel, retry] = actionsOf(name);
  cancel.hidden = retry.hidden = true;
  main.replaceChildren(
    trail(),
    h('h1', {}, name),
    summary,
    h('div', {class: 'actions'}, cancel, retry),
    h('h2', {id: 'trials-title'}, 'Trials'),
    chips,
    grid.element,
    tables,
    running,
    troubles,
    h('h2', {}, 'List of trials'),
    list.element,
    h('details', {}, h('summary', {}, 'Settings'), settings)
  );
  const showChips = (progress) => replaceIfChanged(chips, stateChips(progress, list, () => showChips(progress)));

  return {
    title: name,
    progress: showProgress,
    leave: () => grid.leave(),
    async refresh() {
      const [experiment, cells, found] =
        await Promise.all([json(path), jsonIfNew(path + '/grid'), jsonIfNew(path + '/tables')]);
      replaceIfChanged(summary, summaryOf(experiment));
      cancel.hidden = !canBeCancelled(experiment);
      retry.hidden = !canBeRetried(experiment);
      showChips(experiment.trials);
      grid.show(cells);
      replaceIfChanged(tables, h('h2', {}, 'Tables'), found.tables.map(resultTable));
      replaceIfChanged(running, titled('Running', experiment.running, 'Stages that run'));
      replaceIfChanged(troubles, titled('In trouble', experiment.troubles, 'Stages that failed, and why'));
      settings.textContent = JSON.stringify(experiment.settings, null, 2);
      await list.refresh();
    },
  };
}
