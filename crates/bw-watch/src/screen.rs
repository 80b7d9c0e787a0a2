//! A state on a terminal: keys and states in, lines out.

use bw_file::Fingerprint;
use bw_results::text::{grouped, printable};
use ratatui::Frame;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Clear, Paragraph, Row, Sparkline, Table, Wrap};

use crate::state::{Running, State};
use crate::text::{clock, host, rate, size, time};

const FAINT: Style = Style::new().add_modifier(Modifier::DIM);
const STRONG: Style = Style::new().add_modifier(Modifier::BOLD);
const BAD: Style = Style::new().fg(Color::Red);
const GOOD: Style = Style::new().fg(Color::Green);
const BAR: Style = Style::new().fg(Color::Cyan);

/// Lines of the panels below the table.
const PANEL: u16 = 6;
/// Characters of a name or filter that can be typed.
const TYPED: usize = 40;

/// The order of running measurements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sort {
    #[default]
    Rate,
    Interval,
    Time,
    Name,
}

impl Sort {
    const fn next(self) -> Self {
        match self {
            Self::Rate => Self::Interval,
            Self::Interval => Self::Time,
            Self::Time => Self::Name,
            Self::Name => Self::Rate,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Interval => "interval",
            Self::Time => "time",
            Self::Name => "name",
        }
    }
}

/// The meaning of letters that are typed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Keys,
    Filter,
    Follow,
}

/// The choices of the one who watches.
#[derive(Clone, Debug, Default)]
pub(crate) struct Screen {
    sort: Sort,
    mode: Mode,
    typed: String,
    filter: String,
    /// The relay, by part of its name or fingerprint, whose history is shown.
    followed: String,
    selected: Option<Fingerprint>,
    help: bool,
    /// True if the scan ends with the screen.
    stops_scan: bool,
}

/// A wish that goes beyond the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Nothing,
    Quit,
}

impl Screen {
    /// The first picture; `stops_scan` if the scan ends with the screen.
    pub(crate) fn new(stops_scan: bool) -> Self {
        Self {
            stops_scan,
            ..Self::default()
        }
    }

    /// Takes a key.
    pub(crate) fn key(&mut self, key: KeyEvent, state: &State) -> Asked {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && matches!(key.code, KeyCode::Char('c')) {
            return Asked::Quit;
        }
        if self.mode != Mode::Keys {
            self.letter(key.code);
            return Asked::Nothing;
        }
        match key.code {
            KeyCode::Char('q') => return Asked::Quit,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('/') => self.ask(Mode::Filter),
            KeyCode::Char('f') => self.ask(Mode::Follow),
            KeyCode::Char('?' | 'h') => self.help = !self.help,
            KeyCode::Up | KeyCode::Char('k') => self.select(state, -1),
            KeyCode::Down | KeyCode::Char('j') => self.select(state, 1),
            KeyCode::Enter => {
                if let Some(relay) = self.selected {
                    self.followed = relay.to_string();
                }
            }
            KeyCode::Esc if self.help => self.help = false,
            KeyCode::Esc if !self.followed.is_empty() => self.followed.clear(),
            KeyCode::Esc => {
                self.filter.clear();
                self.selected = None;
            }
            _ => {}
        }
        Asked::Nothing
    }

    fn ask(&mut self, mode: Mode) {
        self.mode = mode;
        self.typed.clear();
    }

    fn letter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char(letter) if self.typed.len() < TYPED => self.typed.push(letter),
            KeyCode::Backspace => {
                self.typed.pop();
            }
            KeyCode::Esc => self.mode = Mode::Keys,
            KeyCode::Enter => {
                let typed = std::mem::take(&mut self.typed);
                match self.mode {
                    Mode::Follow => self.followed = typed,
                    _ => self.filter = typed,
                }
                self.mode = Mode::Keys;
            }
            _ => {}
        }
    }

    fn select(&mut self, state: &State, step: isize) {
        let rows = self.rows(state);
        let at = rows
            .iter()
            .position(|(relay, _)| Some(**relay) == self.selected);
        let to = match at {
            Some(at) => at.saturating_add_signed(step).min(rows.len() - 1),
            None => 0,
        };
        self.selected = rows.get(to).map(|(relay, _)| **relay);
    }

    /// The measurements that pass the filter, in order.
    fn rows<'a>(&self, state: &'a State) -> Vec<(&'a Fingerprint, &'a Running)> {
        let running = state.running.iter();
        let mut rows: Vec<_> = running
            .filter(|(relay, running)| matches(&self.filter, relay, &running.nickname))
            .collect();
        let rate = |running: &Running| running.rate().map_or(0.0, |rate| rate.bandwidth);
        let width = |running: &Running| interval(running).unwrap_or(f64::INFINITY);
        rows.sort_by(|(_, a), (_, b)| match self.sort {
            Sort::Rate => rate(b).total_cmp(&rate(a)),
            Sort::Interval => width(a).total_cmp(&width(b)),
            Sort::Time => a.started.cmp(&b.started),
            Sort::Name => a.nickname.cmp(&b.nickname),
        });
        rows
    }

    /// Draws the state; `lost` is the reason why no events come, if none do.
    pub(crate) fn draw(&self, frame: &mut Frame<'_>, state: &State, lost: Option<&str>) {
        let area = frame.area();
        let tall = area.height >= 16;
        let link = match area.height {
            0..8 => 0,
            8..30 => 3,
            _ => 6,
        };
        let panel = match area.height {
            _ if !tall => 0,
            16..30 => PANEL,
            height => height / 3,
        };
        let [head, use_of_link, table, below, message, keys] = Layout::vertical([
            Constraint::Length(2),
            Constraint::Length(link),
            Constraint::Min(1),
            Constraint::Length(panel),
            Constraint::Length(1),
            Constraint::Length(1),
        ])
        .areas(area);
        draw_head(frame, head, state);
        draw_link(frame, use_of_link, state);
        match (self.followed.is_empty(), tall) {
            (true, _) => {
                self.draw_running(frame, table, state);
                draw_panels(frame, below, state);
            }
            (false, true) => {
                self.draw_running(frame, table, state);
                self.draw_followed(frame, below, state);
            }
            // There is room for one of them.
            (false, false) => self.draw_followed(frame, table, state),
        }
        draw_message(frame, message, state, lost);
        frame.render_widget(Paragraph::new(self.keys()), keys);
        if self.help {
            self.draw_help(frame, area);
        }
    }

    fn keys(&self) -> Line<'static> {
        let typed = printable(&self.typed);
        match self.mode {
            Mode::Filter => Line::from(format!("only relays with: {typed}█")),
            Mode::Follow => Line::from(format!("follow the relay with: {typed}█")),
            Mode::Keys => {
                let quit = if self.stops_scan { "q stop" } else { "q quit" };
                let text = format!(
                    "{quit}  s sort  / filter  ↑↓ select  ⏎ follow  f find  Esc back  ? help"
                );
                Line::styled(text, FAINT)
            }
        }
    }

    fn draw_running(&self, frame: &mut Frame<'_>, area: Rect, state: &State) {
        let rows = self.rows(state);
        let filter = if self.filter.is_empty() {
            String::new()
        } else {
            format!(" with “{}”", printable(&self.filter))
        };
        let title = format!(
            " measuring {}{filter}, by {} ",
            rows.len(),
            self.sort.name()
        );
        let block = Block::new()
            .borders(Borders::TOP)
            .border_style(FAINT)
            .title(Span::styled(title, STRONG));
        let wide = area.width >= 70;
        let mut head = vec!["relay", "as", "     rate", "     ±", "  time"];
        let mut widths = vec![
            Constraint::Length(19),
            Constraint::Length(5),
            Constraint::Length(9),
            Constraint::Length(6),
            Constraint::Length(6),
        ];
        if wide {
            head.extend(["   bytes", "helpers"]);
            widths.extend([Constraint::Length(8), Constraint::Min(10)]);
        }
        let visible = usize::from(area.height.saturating_sub(2));
        let at = rows
            .iter()
            .position(|(relay, _)| Some(**relay) == self.selected);
        // The selected row stays in sight.
        let skip = at.map_or(0, |at| (at + 1).saturating_sub(visible));
        let lines = rows
            .iter()
            .skip(skip)
            .take(visible)
            .map(|(relay, running)| {
                let row = Row::new(cells(state, relay, running, wide));
                if Some(**relay) == self.selected {
                    row.style(Style::new().add_modifier(Modifier::REVERSED))
                } else {
                    row
                }
            });
        let table = Table::new(lines, widths)
            .header(Row::new(head).style(FAINT))
            .block(block);
        frame.render_widget(table, area);
    }

    /// Everything that is known of one relay.
    fn draw_followed(&self, frame: &mut Frame<'_>, area: Rect, state: &State) {
        let mut named = state.running.iter();
        let named =
            named.find(|(relay, running)| matches(&self.followed, relay, &running.nickname));
        let title = match named {
            Some((relay, running)) => format!(" following {} ", name(relay, &running.nickname)),
            None => format!(" following {} ", printable(&self.followed)),
        };
        let block = Block::new()
            .borders(Borders::TOP)
            .border_style(FAINT)
            .title(Span::styled(title, STRONG));
        let mut lines = Vec::new();
        for (relay, running) in &state.running {
            if matches(&self.followed, relay, &running.nickname) {
                lines.extend(followed(state, relay, running));
            }
        }
        for outcome in state.recent.iter().rev() {
            if matches(&self.followed, &outcome.fingerprint, &outcome.nickname) {
                let style = if outcome.failed { BAD } else { GOOD };
                lines.push(Line::from(vec![
                    Span::styled(format!("{} ", clock(outcome.time)), FAINT),
                    Span::raw(format!(
                        "{} ",
                        name(&outcome.fingerprint, &outcome.nickname)
                    )),
                    Span::styled(printable(&outcome.text), style),
                ]));
            }
        }
        if lines.is_empty() {
            lines.push(Line::styled(
                "not measured now, nor among the last outcomes",
                FAINT,
            ));
        }
        let text = Paragraph::new(lines).wrap(Wrap { trim: true });
        frame.render_widget(text.block(block), area);
    }

    fn draw_help(&self, frame: &mut Frame<'_>, area: Rect) {
        let quit = if self.stops_scan {
            "q, Ctrl-C   stop the scan; the next one goes on"
        } else {
            "q, Ctrl-C   leave; the scan goes on"
        };
        let lines = [
            quit,
            "s           sort by rate, interval, time, name",
            "/           show only relays with this in name or fingerprint",
            "↑ ↓         select a measurement",
            "Enter       follow the selected relay",
            "f           follow a relay by name or fingerprint",
            "Esc         back: help, relay, filter",
            "",
            "±           half of the rate's 95 % interval",
            "time        since circuits began to open; … before payload",
        ];
        let width = area.width.min(64);
        let height = area.height.min(lines.len() as u16 + 2);
        let [_, middle, _] = Layout::vertical([
            Constraint::Fill(1),
            Constraint::Length(height),
            Constraint::Fill(1),
        ])
        .areas(area);
        let [_, middle, _] = Layout::horizontal([
            Constraint::Fill(1),
            Constraint::Length(width),
            Constraint::Fill(1),
        ])
        .areas(middle);
        frame.render_widget(Clear, middle);
        let block = Block::bordered().title(" keys ");
        let lines = lines.map(Line::from).to_vec();
        frame.render_widget(Paragraph::new(lines).block(block), middle);
    }
}

/// True if a relay has `part` in its name or begins with it in its fingerprint.
fn matches(part: &str, relay: &Fingerprint, nickname: &str) -> bool {
    let part = part.trim_start_matches('$').to_lowercase();
    nickname.to_lowercase().contains(&part) || relay.to_string().to_lowercase().starts_with(&part)
}

fn name(relay: &Fingerprint, nickname: &str) -> String {
    if nickname.is_empty() {
        relay.to_string().chars().take(8).collect()
    } else {
        printable(nickname)
    }
}

/// Half the width of the interval, as a share of the rate.
fn interval(running: &Running) -> Option<f64> {
    let rate = running.rate()?;
    Some(rate.half_width? / rate.bandwidth).filter(|share| share.is_finite())
}

fn percent(share: f64) -> String {
    if share < 9.995 {
        format!("{:.0} %", share * 100.0)
    } else {
        "wide".to_owned()
    }
}

fn cells(state: &State, relay: &Fingerprint, running: &Running, wide: bool) -> Vec<String> {
    let since = state.now.saturating_sub(running.started) as f64 / 1000.0;
    let waits = if running.flowing.is_some() { "" } else { "…" };
    let mut cells = vec![
        name(relay, &running.nickname),
        running.position.to_string(),
        running
            .rate()
            .map_or(String::new(), |now| format!("{:>9}", rate(now.bandwidth))),
        interval(running).map_or(String::new(), |share| format!("{:>6}", percent(share))),
        format!("{:>6}", format!("{since:.1}s{waits}")),
    ];
    if wide {
        let helpers: Vec<String> = running
            .helpers
            .iter()
            .map(|helper| name(&helper.fingerprint, &helper.nickname))
            .collect();
        cells.push(format!("{:>8}", size(running.bytes as f64)));
        cells.push(helpers.join(" "));
    }
    cells
}

/// A measurement under way, with how its rate became what it is.
fn followed(state: &State, relay: &Fingerprint, running: &Running) -> Vec<Line<'static>> {
    let state_of = match running.flowing {
        Some(since) => format!(
            "payload for {:.1} s",
            state.now.saturating_sub(since) as f64 / 1000.0
        ),
        None => "circuits open".to_owned(),
    };
    let mut lines = vec![Line::from(vec![
        Span::styled(name(relay, &running.nickname), STRONG),
        Span::raw(format!(
            " {relay} as {}, {state_of}, from {}",
            running.position,
            host(&running.destination)
        )),
    ])];
    if let Some(now) = running.rate() {
        let width = now
            .half_width
            .map_or("± not yet known".to_owned(), |width| {
                format!("± {}", rate(width))
            });
        let trail = running.estimates.iter().rev().take(4).rev();
        let trail: Vec<String> = trail.map(|one| rate(one.bandwidth)).collect();
        lines.push(Line::raw(format!(
            "{} {width}; {}",
            rate(now.bandwidth),
            trail.join(" → ")
        )));
    }
    let helpers = running.helpers.iter().map(|helper| {
        format!(
            "{} {}",
            name(&helper.fingerprint, &helper.nickname),
            rate(helper.bandwidth)
        )
    });
    let helpers: Vec<String> = helpers.collect();
    lines.push(Line::raw(format!("helped by {}", helpers.join(", "))));
    lines
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let round = &state.round;
    let scan = round.scan.as_deref().unwrap_or_default();
    let scan: String = scan.chars().take(8).collect();
    let at = format!(" {} UTC ", clock(state.now));
    let left = format!(
        " bwscan · {}{}{scan} · {} relays in the consensus",
        printable(&state.scanner),
        if scan.is_empty() { "" } else { " · round " },
        grouped(state.relays)
    );
    let [title, progress] = Layout::vertical([Constraint::Length(1); 2]).areas(area);
    let width = u16::try_from(at.len()).unwrap_or(0);
    let [name, now] =
        Layout::horizontal([Constraint::Min(0), Constraint::Length(width)]).areas(title);
    frame.render_widget(Paragraph::new(Line::styled(left, STRONG)), name);
    frame.render_widget(Paragraph::new(Line::styled(at, FAINT)), now);

    let share = round.done as f64 / round.targets.max(1) as f64;
    let (done, targets) = (grouped(round.done), grouped(round.targets));
    let (failed, queued) = (grouped(round.failed), grouped(state.queued()));
    let left = state.left().map_or("unknown".to_owned(), time);
    let percent = (share * 100.0).floor();
    let mut text = format!(
        " {done}/{targets} relays, {percent} %, {failed} failed, {queued} queued, left {left}"
    );
    let width = |text: &str| u16::try_from(text.chars().count()).unwrap_or(u16::MAX);
    if width(&text) > area.width {
        text = format!(" {done}/{targets}, {failed} failed, left {left}");
    }
    let bar = area.width.saturating_sub(width(&text));
    let bar = usize::from(bar.min(30)).saturating_sub(2);
    let full = (share.min(1.0) * bar as f64) as usize;
    let mut spans = Vec::new();
    if bar >= 4 {
        spans.push(Span::styled(format!(" {}", "█".repeat(full)), BAR));
        spans.push(Span::styled("░".repeat(bar - full), FAINT));
    }
    spans.push(Span::raw(text));
    frame.render_widget(Paragraph::new(Line::from(spans)), progress);
}

fn draw_link(frame: &mut Frame<'_>, area: Rect, state: &State) {
    if area.height == 0 {
        return;
    }
    let now = state.link_use(5);
    let limit = if state.link == 0 {
        String::new()
    } else {
        let share = now / state.link as f64 * 100.0;
        format!(" of {}, {share:.0} %", rate(state.link as f64))
    };
    let title = format!(
        " link {}{limit}; {} in this process ",
        rate(now),
        size(state.round.bytes as f64)
    );
    let block = Block::new()
        .borders(Borders::TOP)
        .border_style(FAINT)
        .title(Span::styled(title, STRONG));
    // The second that is not over would show a gap.
    let over = state.seconds.len().saturating_sub(1);
    let from = over.saturating_sub(usize::from(area.width));
    let seconds: Vec<u64> = state.seconds.range(from..over).copied().collect();
    let most = seconds
        .iter()
        .copied()
        .max()
        .unwrap_or(0)
        .max(state.link)
        .max(1);
    let sparkline = Sparkline::default()
        .data(&seconds)
        .max(most)
        .style(BAR)
        .block(block);
    frame.render_widget(sparkline, area);
}

fn draw_panels(frame: &mut Frame<'_>, area: Rect, state: &State) {
    if area.height == 0 {
        return;
    }
    let [causes, destinations, helpers] = Layout::horizontal([
        Constraint::Fill(1),
        Constraint::Fill(1),
        Constraint::Fill(1),
    ])
    .spacing(1)
    .areas(area);
    let total: u64 = state.causes.iter().map(|cause| cause.count).sum();
    panel(
        frame,
        causes,
        &format!("failures {}", grouped(total)),
        state.causes.iter().map(|cause| {
            let text = format!("{} ({})", printable(&cause.stage), printable(&cause.blame));
            (text, grouped(cause.count), BAD)
        }),
    );
    panel(
        frame,
        destinations,
        "destinations",
        state.destinations.iter().map(|(url, used)| {
            let (text, style) = if used.down {
                ("down".to_owned(), BAD)
            } else {
                (size(used.bytes as f64), Style::new())
            };
            (host(url), text, style)
        }),
    );
    let loads = state.helpers();
    panel(
        frame,
        helpers,
        &format!("helpers {}", loads.len()),
        loads.iter().map(|load| {
            let text = name(&load.fingerprint, &load.nickname);
            (text, rate(load.bandwidth), Style::new())
        }),
    );
}

/// Names on the left, figures on the right.
fn panel(
    frame: &mut Frame<'_>,
    area: Rect,
    title: &str,
    lines: impl Iterator<Item = (String, String, Style)>,
) {
    let width = usize::from(area.width);
    let lines: Vec<Line<'_>> = lines
        .take(usize::from(area.height))
        .map(|(name, figure, style)| {
            let room = width.saturating_sub(figure.chars().count() + 1);
            let name: String = name.chars().take(room).collect();
            Line::from(vec![
                Span::raw(format!("{name:<room$} ")),
                Span::styled(figure, style),
            ])
        })
        .collect();
    let block = Block::new()
        .borders(Borders::TOP)
        .border_style(FAINT)
        .title(Span::styled(format!(" {title} "), STRONG));
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn draw_message(frame: &mut Frame<'_>, area: Rect, state: &State, lost: Option<&str>) {
    let line = match (lost, state.message.is_empty(), state.recent.back()) {
        (Some(reason), ..) => Line::styled(
            format!(" {}; waiting for the next one", printable(reason)),
            BAD,
        ),
        (None, false, _) => Line::styled(format!(" {}", printable(&state.message)), STRONG),
        (None, true, Some(last)) => Line::from(vec![
            Span::styled(format!(" {} ", clock(last.time)), FAINT),
            Span::raw(format!("{} ", name(&last.fingerprint, &last.nickname))),
            Span::styled(printable(&last.text), if last.failed { BAD } else { GOOD }),
        ]),
        (None, true, None) => Line::default(),
    };
    frame.render_widget(Paragraph::new(line), area);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ScanEvent;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    /// Relays 1 to 3 under way, relay 4 failed, of 100.
    fn state() -> State {
        let mut state = State::new("east", 12_500_000);
        let print = |number: u64| format!("{number:040X}");
        let attempt = |event: &str, number: u64| {
            json!({
                "event": event, "fingerprint": print(number), "nickname": format!("relay{number}"),
                "position": "entry", "helpers": [print(90 + number)],
                "destination": "https://files.example/1GiB", "started": 1_790_000_000_000_u64,
            })
        };
        let mut lines = vec![
            json!({"event": "network", "relays": 8000}),
            json!({"event": "started", "targets": 100}),
        ];
        for number in 1..=3 {
            lines.push(attempt("attempt", number));
            lines.push(json!({"event": "progress", "fingerprint": print(number),
                "bytes": number * 1_000_000}));
            lines.push(json!({"event": "estimate", "fingerprint": print(number),
                "bandwidth": number as f64 * 1e6, "half_width": 3e5,
                "helpers": [{"fingerprint": print(90 + number), "nickname": "helping",
                    "bytes": 500_000}]}));
        }
        let mut failed = attempt("failed", 4);
        failed["nickname"] = "evil\u{1b}[2J<b>".into();
        for (key, value) in [
            ("stage", json!("create")),
            ("kind", json!("timeout")),
            ("blame", json!("target")),
            ("detail", json!("no answer in 30 s")),
            ("verdict", json!({"kind": "charged"})),
            ("settled", json!(true)),
        ] {
            failed[key] = value;
        }
        lines.push(failed);
        for (index, line) in lines.into_iter().enumerate() {
            let event: ScanEvent = serde_json::from_value(line).unwrap();
            state.apply(1_790_000_000_500 + index as u64 * 200, event);
        }
        state.apply(1_790_000_004_000, ScanEvent::Tick);
        state
    }

    fn shown(screen: &Screen, state: &State, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal
            .draw(|frame| screen.draw(frame, state, None))
            .unwrap();
        let buffer = terminal.backend().buffer();
        let lines = (0..height).map(|y| {
            let cells = (0..width).map(|x| buffer[(x, y)].symbol());
            cells.collect::<String>().trim_end().to_owned()
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn press(screen: &mut Screen, state: &State, keys: &str) {
        for key in keys.chars() {
            let code = match key {
                '\n' => KeyCode::Enter,
                '\u{1b}' => KeyCode::Esc,
                '↓' => KeyCode::Down,
                key => KeyCode::Char(key),
            };
            let asked = screen.key(KeyEvent::from(code), state);
            assert_eq!(asked, Asked::Nothing, "{key}");
        }
    }

    #[test]
    fn a_narrow_screen_has_less_and_all_of_it_fits() {
        let text = shown(&Screen::default(), &state(), 44, 16);
        for part in [
            " 14:13:24 UTC",
            " 1/100, 1 failed, left 5m26s\n",
            "measuring 3",
        ] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
    }

    #[test]
    fn all_of_it_is_in_eighty_by_twenty_four() {
        let text = shown(&Screen::default(), &state(), 80, 24);
        for part in [
            "bwscan · east",
            "8,000 relays in the consensus",
            "1/100 relays, 1 %, 1 failed, 96 queued, left 5m26s",
            "of 12.5 MB/s",
            "measuring 3, by rate",
            "3.00 MB/s   10 %",
            "create (target)",
            "helping",
            "failed at create (target): no answer in 30 s",
            "q quit",
        ] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
        let order: Vec<_> = ["relay3", "relay2", "relay1"]
            .map(|name| text.find(name).unwrap())
            .to_vec();
        assert!(order.is_sorted(), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn every_size_is_drawn() {
        let mut screen = Screen::default();
        let state = state();
        for keys in ["", "?", "\u{1b}frelay1\n"] {
            press(&mut screen, &state, keys);
            for (width, height) in [(1, 1), (10, 3), (40, 12), (79, 16), (80, 24), (250, 90)] {
                let text = shown(&screen, &state, width, height);
                assert!(
                    width < 40 || text.contains("relay"),
                    "{width}x{height}:\n{text}"
                );
            }
        }
    }

    #[test]
    fn keys_sort_filter_and_follow() {
        let state = state();
        let mut screen = Screen::default();
        press(&mut screen, &state, "sss");
        let text = shown(&screen, &state, 80, 24);
        assert!(text.contains("by name"), "{text}");
        assert!(text.find("relay1") < text.find("relay3"), "{text}");
        press(&mut screen, &state, "/AY2");
        assert!(shown(&screen, &state, 80, 24).contains("only relays with: AY2"));
        press(&mut screen, &state, "\n");
        let text = shown(&screen, &state, 80, 24);
        assert!(text.contains("measuring 1 with “AY2”"), "{text}");
        press(&mut screen, &state, "\u{1b}↓↓\n");
        let text = shown(&screen, &state, 80, 24);
        assert!(text.contains("following relay"), "{text}");
        assert!(text.contains("2.00 MB/s ± 300 kB/s"), "{text}");
        let text = shown(&screen, &state, 50, 14);
        assert!(
            text.contains("following relay"),
            "a low one has no panel: {text}"
        );
        press(&mut screen, &state, "fevil\n");
        let text = shown(&screen, &state, 80, 24);
        assert!(text.contains("following evil"), "{text}");
        assert!(text.contains("no answer in 30 s"), "{text}");
        press(&mut screen, &state, "\u{1b}");
        assert!(shown(&screen, &state, 80, 24).contains("destinations"));
    }

    #[test]
    fn q_and_control_c_quit_but_letters_do_not() {
        let state = State::default();
        let mut screen = Screen::default();
        press(&mut screen, &state, "/q");
        let quit = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(screen.key(quit, &state), Asked::Quit);
        press(&mut screen, &state, "\u{1b}");
        let quit = KeyEvent::from(KeyCode::Char('q'));
        assert_eq!(screen.key(quit, &state), Asked::Quit);
    }

    #[test]
    fn what_is_lost_is_said() {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        let screen = Screen::default();
        terminal
            .draw(|frame| screen.draw(frame, &state(), Some("the scanner has ended")))
            .unwrap();
        let text = format!("{:?}", terminal.backend().buffer());
        assert!(text.contains("the scanner has ended; waiting"), "{text}");
    }
}
