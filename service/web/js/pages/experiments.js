// #/: the experiments of the workspace.

import {API, json} from '../api.js';
import {h, main, replaceIfChanged, showProblem} from '../dom.js';
import {countsText} from '../format.js';
import {experimentAddress} from '../links.js';
import {progressBar} from '../state.js';

function card({name, trials, stages, active}) {
  return h(
    'article',
    {class: 'card'},
    h('h2', {}, h('a', {href: experimentAddress(name), 'data-focus': name}, name)),
    progressBar(trials),
    h('p', {}, countsText(trials, 'trial')),
    h('p', {class: 'faint'}, countsText(stages, 'stage')),
    h('p', {class: 'faint'}, active ? 'looked after by a coordinator' : 'not active: filo submit hands it over')
  );
}

export function experimentsPage() {
  const list = h('div', {class: 'cards'});
  const note = h('p', {class: 'faint'});
  main.replaceChildren(h('h1', {}, 'Experiments'), note, list);
  const none = 'No experiment has been run or submitted in this workspace yet.';
  return {
    title: 'experiments',
    async refresh() {
      const {workspace, version, problem, experiments} = await json(API + '/experiments');
      note.textContent = `Workspace ${workspace}, filo ${version}`;
      showProblem(problem);
      replaceIfChanged(list, experiments.length ? experiments.map(card) : h('p', {}, none));
    },
  };
}
