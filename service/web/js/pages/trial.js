// #/experiments/NAME/trials/N: one trial, its training's curves and its evaluation's metrics and heat maps.

import {experimentPath, json, stagePath} from '../api.js';
import {Curves} from '../curves.js';
import {h, main, replaceIfChanged} from '../dom.js';
import {HeatMaps} from '../heat_maps.js';
import {experimentLink, trail, trialAddress} from '../links.js';
import {Parts} from '../parts.js';
import {showProgress, stateText} from '../state.js';
import {metricsTable, stageTable} from '../tables.js';

function neighbours(name, number) {
  const link = (to, text) => h('a', {href: trialAddress(name, to)}, text);
  const before = number > 0 ? link(number - 1, '‹ trial before') : null;
  return h('div', {class: 'pager'}, before, link(number + 1, 'trial after ›'));
}

export function trialPage(name, number) {
  const [facts, metrics, curves, maps] = ['div', 'div', 'div', 'div'].map((tag) => h(tag));
  main.replaceChildren(trail(experimentLink(name)), h('h1', {}, `Trial ${number}`), facts, metrics, curves, maps);
  const parts = new Parts();
  return {
    title: `trial ${number} of ${name}`,
    progress: showProgress,
    leave: () => parts.leave(),
    async refresh() {
      const trial = await json(`${experimentPath(name)}/trials/${number}`);
      const keys = [trial.train, trial.evaluate].filter(Boolean);
      const stages = await Promise.all(keys.map((key) => json(stagePath(key))));
      const {result} = stages[stages.length - 1];
      replaceIfChanged(
        facts,
        h('p', {}, stateText(trial.state), ` – ${trial.fold}`, trial.label ? `, ${trial.label}` : ''),
        trial.reason && trial.state !== 'done' ? h('p', {role: 'note'}, trial.reason) : null,
        stageTable(stages, 'Stages of this trial'),
        neighbours(name, Number(number))
      );
      replaceIfChanged(metrics, result ? [h('h2', {}, 'Metrics'), metricsTable(result.metrics, 'By class')] : null);
      if (!parts.has('curves') && trial.train && stages[0].attempt > 0)
        await parts.put('curves', curves, 'Training', new Curves(trial.train));
      if (!parts.has('maps') && result) await parts.put('maps', maps, 'Heat maps', new HeatMaps(trial.evaluate));
    },
  };
}
