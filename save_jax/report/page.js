// Filters the query cards by group, outcome and words. Without JavaScript the page shows all of them.
const form = document.getElementById("filter");
const cards = [...document.querySelectorAll("article.card")];

function filter() {
  const { group, outcome, words } = form.elements;
  const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const card of cards) {
    const { group: its, failed, text } = card.dataset;
    card.hidden =
      (group.value !== "" && group.value !== its) ||
      (outcome.value !== "" && outcome.value !== failed) ||
      !wanted.every((word) => text.includes(word));
  }
  const count = cards.filter((card) => !card.hidden).length;
  document.getElementById("count").textContent = `${count} of ${cards.length} queries`;
}

form.hidden = false;
form.addEventListener("input", filter);
form.addEventListener("submit", (event) => event.preventDefault());
filter();
