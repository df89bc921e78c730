// The token: from the address that `filo serve` prints, or asked for.

import {session} from './api.js';
import {h, main} from './dom.js';
import {leave, stopFollowing} from './live.js';

let asking = false;

// #token=TOKEN, which leaves the address at once. Whether there was one.
export function takeTokenFromAddress() {
  const found = /^#token=([\x21-\x7e]+)$/.exec(location.hash);
  if (!found) return false;
  session.token = decodeURIComponent(found[1]);
  history.replaceState(null, '', location.pathname + '#/');
  return true;
}

export function stopAsking() {
  asking = false;
}

// Shows the question in place of the page; `open` is called once it is answered.
export function askForToken(open) {
  if (asking) return;
  asking = true;
  leave();
  stopFollowing();
  const wrong = Boolean(session.token);
  session.token = '';
  const input = h('input', {
    type: 'password',
    id: 'token',
    autocomplete: 'off',
    required: true,
    'aria-describedby': 'token-help',
  });
  const answer = (event) => {
    event.preventDefault();
    session.token = input.value.trim();
    asking = false;
    open();
  };
  const help = 'It stands in the file “token” in the workspace, and is kept in this browser tab only.';
  const form =
    h('form',
      {class: 'login', onsubmit: answer},
      wrong ? h('p', {role: 'alert'}, 'The server does not know this token.') : null,
      h('label',
        {for: 'token'
        },
        'Token of this workspace’s server'),
      input,
      h('p', {id: 'token-help', class: 'faint'}, help),
      h('div', {}, h('button', {}, 'Open')));
  main.replaceChildren(h('h1', {}, 'Token'), form);
  input.focus();
}
