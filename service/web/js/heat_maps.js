// The heat maps of an evaluation. Pictures need the token too, which <img src> cannot send.

import {artifactPath, json, request, stagePath} from './api.js';
import {h} from './dom.js';
import {plural} from './format.js';

const AT_A_TIME = 12;

// interpretations.json by the name of the image's heat map.
async function readInterpretations(key) {
  const words = new Map();
  const readings = await json(artifactPath(key, 'interpretations.json'));
  for (const images of Object.values(readings))
    for (const [image, ranked] of Object.entries(images))
      words.set(image.replaceAll('/', '_').replace(/\.\w+$/, ''), ranked);
  return words;
}

export class HeatMaps {
  constructor(key) {
    this.key = key;
    this.element = h('div', {});
    this.addresses = [];
  }

  leave() {
    this.left = true;
    for (const address of this.addresses) URL.revokeObjectURL(address);
  }

  async start() {
    const {artifacts} = await json(`${stagePath(this.key)}/artifacts`);
    const isMap = (one) => one.path.startsWith('heat_maps/') && one.media_type === 'image/png';
    this.files = artifacts.filter(isMap).map((one) => one.path);
    const interpreted = artifacts.some((one) => one.path === 'interpretations.json');
    this.words = interpreted ? await readInterpretations(this.key) : new Map();
    this.shown = 0;
    this.box = h('div', {class: 'maps'});
    this.more = h('button', {onclick: () => this.showMore()}, 'Show more');
    const number = this.files.length;
    const text = number ? `${plural(number, 'heat map')}; the image beside its anomaly map.` : 'No heat map.';
    this.element.replaceChildren(h('p', {class: 'faint'}, text), this.box, this.more);
    await this.showMore();
  }

  async showMore() {
    const some = this.files.slice(this.shown, this.shown + AT_A_TIME);
    this.shown += some.length;
    this.more.hidden = this.shown >= this.files.length;
    for (const file of some) {
      const image = this.append(file);
      const blob = await (await request(artifactPath(this.key, file))).blob();
      if (this.left) return;
      image.src = URL.createObjectURL(blob);
      this.addresses.push(image.src);
    }
  }

  append(file) {
    const [, group, name] = file.split('/');
    const photo = (name || group).replace(/^(worst|best|random)-\d+-/, '').replace(/\.png$/, '');
    const [best] = this.words.get(photo) || [];
    const title = file.slice('heat_maps/'.length);
    const image = h('img', {alt: `Heat map of ${title}`});
    const words = best ? h('span', {}, h('br'), `most like: ${best.description}, ${best.position}`) : null;
    this.box.append(h('figure', {}, image, h('figcaption', {}, title, words)));
    return image;
  }
}
