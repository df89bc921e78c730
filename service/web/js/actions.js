// Buttons that ask something of the coordinator, and the question before.

import {json} from './api.js';
import {h, showProblem} from './dom.js';
import {refreshSoon} from './live.js';

function confirmed({label, dangerous, question, text}) {
  const dialog = document.getElementById('confirm');
  document.getElementById('confirm-title').textContent = question;
  document.getElementById('confirm-text').textContent = text;
  const yes = document.getElementById('confirm-yes');
  yes.textContent = label;
  yes.className = dangerous ? 'danger' : '';
  dialog.returnValue = 'no';
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), {once: true});
  });
}

const unheard = 'No coordinator looks after it now: filo run FILE or filo submit FILE goes on with it.';

// {label, question, text, path of the request, dangerous}
export function actionButton(action) {
  const {label, dangerous, path} = action;
  const ask = async (event) => {
    const button = event.currentTarget;
    if (!await confirmed(action)) return;
    button.disabled = true;
    try {
      const {active} = await json(path, {method: 'POST'});
      showProblem(active ? '' : `${label}: noted in the workspace. ${unheard}`);
      refreshSoon(500);
    } catch (problem) {
      showProblem(`${label}: ${problem.message}`);
    }
    button.disabled = false;
  };
  return h('button', {class: dangerous ? 'danger' : '', 'data-focus': path, onclick: ask}, label);
}
