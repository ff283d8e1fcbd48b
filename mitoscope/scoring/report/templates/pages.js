// A long list, a page at a time: however many cards there are, few are in the document. makeCard is the page's own.
const PER_PAGE = 60;
const cards = document.getElementById("cards");
let shown = [];
let page = 0;

function showPage(number) {
  const pages = Math.max(1, Math.ceil(shown.length / PER_PAGE));
  page = Math.min(Math.max(number, 0), pages - 1);
  const first = page * PER_PAGE;
  cards.replaceChildren(...shown.slice(first, first + PER_PAGE).map((row, place) => makeCard(row, first + place)));
  for (const nav of document.querySelectorAll(".pages")) {
    nav.querySelector(".where").textContent = `page ${page + 1} of ${pages}`;
    nav.querySelector('[data-page="-1"]').disabled = page === 0;
    nav.querySelector('[data-page="1"]').disabled = page === pages - 1;
  }
}

for (const button of document.querySelectorAll("[data-page]")) {
  button.addEventListener("click", () => {
    showPage(page + Number(button.dataset.page));
    document.getElementById("crops").scrollIntoView();
    if (button.disabled) cards.querySelector("button")?.focus();
  });
}
