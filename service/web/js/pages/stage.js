// #/stages/KEY: one stage, its attempts, log, curves and files.

import {actionButton} from '../actions.js';
import {artifactPath, json, request, stagePath} from '../api.js';
import {Curves} from '../curves.js';
import {h, main, replaceIfChanged, showProblem} from '../dom.js';
import {bytesText, localTime} from '../format.js';
import {HeatMaps} from '../heat_maps.js';
import {experimentLink, stageLink, trail} from '../links.js';
import {Log} from '../log.js';
import {Parts} from '../parts.js';
import {progressOf, showProgress, stateText} from '../state.js';
import {headings, metricsTable, scrolling, stacked} from '../tables.js';

function actionsOf(key) {
  const cancel = {
    label: 'Cancel stage',
    dangerous: true,
    question: 'Cancel this stage?',
    text: 'It is ended at once if it runs, and not started again until it is retried. What needs it is blocked.',
    path: stagePath(key) + '/cancel',
  };
  const retry = {
    label: 'Retry stage',
    question: 'Retry this stage?',
    text: 'It is started again; earlier failures no longer count.',
    path: stagePath(key) + '/retry',
  };
  return [actionButton(cancel), actionButton(retry)];
}

const separated = (parts) => parts.map((part, i) => [i ? ', ' : '', part]);

function countedAttempts({attempt, counts, limits}) {
  const kinds = ['failures', 'timeouts', 'out_of_memory', 'requeues'];
  const counted = kinds.map((one) => `${counts[one]} of at most ${limits[one]} ${one.replace(/_/g, ' ')}`);
  return `${attempt}; of those that count: ${counted.join(', ')}`;
}

function factsOf(stage) {
  const progress = () => h('span', {'data-progress': stage.stage}, progressOf(stage.progress));
  const input = (one) => [stageLink(one.stage, one.label), ' ', stateText(one.state)];
  const facts = [
    ['state', stateText(stage.state)],
    ['reason', stage.reason],
    ['progress', stage.state === 'running' ? progress() : ''],
    ['where', stage.where],
    ['stage', h('code', {}, stage.stage)],
    ['kind', stage.kind],
    ['attempts', countedAttempts(stage)],
    ['asked for', stage.request ? `${stage.request.want}: ${stage.request.reason || ''}` : ''],
    ['needs', stage.inputs.length ? separated(stage.inputs.map(input)) : ''],
    ['experiments', separated(stage.experiments.map(experimentLink))],
    ['resources', Object.entries(stage.resources).map(([name, value]) => `${name} ${value}`).join(', ')],
    ['took', stage.result ? `${stage.result.seconds.toFixed(1)} s` : ''],
  ];
  const known = facts.filter(([, value]) => value && String(value).length);
  return h('dl', {class: 'facts'}, known.map(([name, value]) => [h('dt', {}, name), h('dd', {}, value)]));
}

function attemptRow({attempt, claim, end, ended, log_bytes: logBytes}) {
  return h(
    'tr',
    {},
    h('td', {'data-title': 'attempt'}, attempt),
    h('td', {}, end ? end.outcome : 'not ended'),
    h('td', {class: 'reason'}, (end && end.reason) || '–'),
    h('td', {}, (claim && claim.host) || '–'),
    h('td', {}, localTime(ended)),
    h('td', {class: 'nowrap'}, bytesText(logBytes))
  );
}

function attemptsTable(attempts) {
  if (!attempts.length) return h('p', {class: 'faint'}, 'None yet.');
  const head = headings(['attempt', 'outcome', 'reason', 'where', 'ended', 'log']);
  return scrolling('Attempts', stacked('', head, attempts.map(attemptRow)));
}

async function download(key, file) {
  try {
    const blob = await (await request(artifactPath(key, file))).blob();
    const address = URL.createObjectURL(blob);
    h('a', {href: address, download: file.split('/').pop()}).click();
    setTimeout(() => URL.revokeObjectURL(address), 60000);
  } catch (problem) {
    showProblem(`${file}: ${problem.message}`);
  }
}

async function fileList(key) {
  const {artifacts} = await json(stagePath(key) + '/artifacts');
  const others = artifacts.filter((one) => !one.path.startsWith('heat_maps/'));
  const entry = ({path, bytes}) => {
    const button = h('button', {'data-focus': path, onclick: () => download(key, path)}, path);
    return h('li', {}, button, ` ${bytesText(bytes)}`);
  };
  return others.length ? [h('h2', {}, 'Files'), h('ul', {}, others.map(entry))] : [];
}

export function stagePage(key) {
  const [facts, curves, log, maps, attempts, files] = ['div', 'div', 'div', 'div', 'div', 'div'].map((tag) => h(tag));
  const title = h('h1', {}, key);
  const actions = h('div', {class: 'actions'}, actionsOf(key));
  const spec = h('pre', {class: 'text', tabindex: 0});
  const settings = h('details', {}, h('summary', {}, 'Settings of this stage'), spec);
  main.replaceChildren(trail(), title, facts, actions, curves, log, maps, attempts, files, settings);
  const parts = new Parts();
  let shownAttempt = 0;
  return {
    title: `stage ${key}`,
    progress: showProgress,
    leave: () => parts.leave(),
    async refresh() {
      const [stage, tries] = await Promise.all([json(stagePath(key)), json(stagePath(key) + '/attempts')]);
      const {attempt, kind, result} = stage;
      title.textContent = stage.label;
      actions.hidden = stage.state === 'done';
      const byClass = result && result.metrics.classes ? metricsTable(result.metrics, 'Metrics by class') : null;
      replaceIfChanged(facts, factsOf(stage), byClass);
      replaceIfChanged(attempts, h('h2', {}, 'Attempts'), attemptsTable(tries.attempts));
      spec.textContent = JSON.stringify(stage.spec, null, 2);
      if (attempt > 0 && attempt !== shownAttempt) {
        shownAttempt = attempt;
        await parts.put('log', log, `Log of attempt ${attempt}`, new Log(key, attempt));
      }
      if (!parts.has('curves') && attempt > 0 && kind === 'train')
        await parts.put('curves', curves, 'Curves', new Curves(key));
      if (!parts.has('maps') && result && kind === 'evaluate')
        await parts.put('maps', maps, 'Heat maps', new HeatMaps(key));
      if (result) replaceIfChanged(files, await fileList(key));
    },
  };
}
