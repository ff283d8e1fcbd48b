// What every page makes its elements with. Text from outside becomes text nodes and attributes, never markup.
const data = JSON.parse(document.getElementById("data").textContent);

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children.filter((child) => child !== null));
  return made;
}

function tag(text, kind) {
  return element("span", { className: `tag ${kind}`, textContent: text });
}
