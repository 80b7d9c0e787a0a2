// Moves the page of the running round. Without it the page loads itself again.
(function () {
  "use strict";
  var source = new EventSource("events");
  source.addEventListener("live", function (event) {
    var news = new DOMParser().parseFromString(event.data, "text/html");
    // A body of a table is only one within a table: all of the content comes.
    news.querySelectorAll("[data-live]").forEach(function (part) {
      var here = document.getElementById(part.id);
      if (here && here.innerHTML !== part.innerHTML) { here.innerHTML = part.innerHTML; }
    });
    document.documentElement.dataset.moved = String(Number(document.documentElement.dataset.moved || 0) + 1);
  });
}());
