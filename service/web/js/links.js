// Addresses within the page.

import {h} from './dom.js';

export const experimentAddress = (name) => '#/experiments/' + encodeURIComponent(name);
export const trialAddress = (name, trial) => `${experimentAddress(name)}/trials/${trial}`;

export const experimentLink = (name) => h('a', {href: experimentAddress(name)}, name);
export const stageLink = (key, label) => h('a', {href: '#/stages/' + key}, label || key);

// "Experiments › ... › ", above a view's title.
export function trail(...links) {
  const steps = links.map((link) => [link, ' › ']);
  return h('nav', {class: 'trail', 'aria-label': 'Where you are'}, h('a', {href: '#/'}, 'Experiments'), ' › ', steps);
}
