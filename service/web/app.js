// The page of `filo serve`: one view by hash (#/, #/experiments/NAME, #/experiments/NAME/trials/N, #/stages/KEY), drawn
// from the HTTP API and kept up to date by its event streams. Here a hash becomes a view; js/pages/ has the views.

import {onTokenRefused, Refused, session} from './js/api.js';
import {h, main, showProblem} from './js/dom.js';
import {enter, followWorkspace, isShown, leave} from './js/live.js';
import {askForToken, stopAsking, takeTokenFromAddress} from './js/login.js';
import {experimentPage} from './js/pages/experiment.js';
import {experimentsPage} from './js/pages/experiments.js';
import {stagePage} from './js/pages/stage.js';
import {trialPage} from './js/pages/trial.js';

function pageOf(hash) {
  const parts = hash.replace(/^#\/?/, '').split('/').map(decodeURIComponent);
  if (parts[0] === 'experiments' && parts[2] === 'trials' && /^\d+$/.test(parts[3]))
    return trialPage(parts[1], parts[3]);
  if (parts[0] === 'experiments' && parts[1]) return experimentPage(parts[1]);
  if (parts[0] === 'stages' && /^[0-9a-f]{16}$/.test(parts[1])) return stagePage(parts[1]);
  return experimentsPage();
}

async function route() {
  if (takeTokenFromAddress()) return start();
  if (!session.token) return askForToken(start);
  leave();
  stopAsking();
  showProblem('');
  const page = pageOf(location.hash);
  enter(page);
  document.title = `${page.title} – FiLo++`;
  window.scrollTo(0, 0);
  try {
    await page.refresh();
    document.documentElement.dataset.ready = location.hash;
  } catch (problem) {
    if (isShown(page) && problem instanceof Refused && problem.status !== 401)
      main.append(h('p', {role: 'alert'}, problem.message));
  }
}

function start() {
  followWorkspace();
  route();
}

onTokenRefused(() => askForToken(start));
window.addEventListener('hashchange', route);
if (takeTokenFromAddress() || session.token)
  start();
else
  askForToken(start);
