//! Instructions per operation, counted by callgrind, allocations and time, ours beside the rivals.
//!
//! Each case runs twice in a process of its own, for a different number of rounds: the difference is the work itself,
//! without start and preparation.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use clap::{Parser, Subcommand};
use damselfly_benches::{
    case,
    contender::{self, codec::Codec},
    invalid::{self, Behaviour, Invalid},
};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Counts instructions (valgrind must be installed) and allocations per operation.
#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// Does one case so many times; what callgrind looks at.
    Run { case: String, contender: String, rounds: u64 },
    /// Times one case: the shortest of many samples, in CPU time.
    Time { case: String, contender: String },
    /// Lists the invalid packets that the codecs of others take, as `benches/data/accepted.tsv` has them.
    Accepted,
    /// Lists those that they write again, as `benches/data/written.tsv` has them.
    Written,
    /// Of each codec case in a record: the fastest rival, and the fastest of those that check what we check.
    ///
    /// A rival is left out of a row only for a packet of that row's type that `benches/data/accepted.tsv` shows it to take
    /// or, where the row is about encoding, `benches/data/written.tsv` to write.
    Rivals { record: PathBuf },
    /// Names the cases and who takes part.
    List,
    /// Times, and prints a table: all who take part in a case in turn, round after round.
    Times {
        /// Only cases whose name contains one of these, comma separated.
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        /// Writes the times into this record, beside what it holds of other cases.
        #[arg(long)]
        record: Option<PathBuf>,
    },
    /// Counts, and prints a table.
    Table {
        /// Only cases whose name contains one of these, comma separated.
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        /// Only ours.
        #[arg(long)]
        ours: bool,
        /// Writes what was counted into this record, beside what it holds of other cases.
        #[arg(long)]
        record: Option<PathBuf>,
        /// Fails when ours needs more than this record says.
        #[arg(long)]
        check: Option<PathBuf>,
        /// By how many per cent a figure may grow.
        #[arg(long, default_value_t = 2.0)]
        tolerance: f64,
    },
}

/// (case, contender, unit) to figure.
type Figures = BTreeMap<(String, String, String), f64>;

const OURS: &str = "damselfly";
const UNITS: [&str; 4] = ["instructions", "allocations", "bytes allocated", "nanoseconds"];

fn main() -> Outcome<()> {
    match Options::parse().mode {
        Mode::Run { case, contender, rounds } => {
            let mut prepared = case::prepare(&case, &contender)?;
            for _ in 0..rounds {
                (prepared.run)();
            }
        }
        Mode::Time { case, contender } => println!("{:.2}", time(&case, &contender)?),
        Mode::Accepted => list("accepts", invalid::observe),
        Mode::Written => list("writes", invalid::observe_written),
        Mode::Rivals { record } => print!("{}", rivals(&read(&record)?.1)),
        Mode::List => {
            for case in case::names() {
                println!("{case}: {}", case::contenders(&case).join(", "));
            }
        }
        Mode::Times { only, record } => {
            let figures = times(&only);
            print!("{}", table(&figures));
            if let Some(path) = record {
                store(&path, &figures)?;
            }
        }
        Mode::Table { only, ours, record, check, tolerance } => {
            let figures = count(&only, ours);
            print!("{}", table(&figures));
            if let Some(path) = record {
                store(&path, &figures)?;
            }
            if let Some(path) = check {
                let (recorded_with, record) = read(&path)?;
                let is_same = recorded_with == compiler()?;
                if !is_same {
                    eprintln!("recorded with {recorded_with}, so only allocations are compared");
                }
                compare(&figures, &record, tolerance, is_same)?;
            }
        }
    }
    Ok(())
}

fn is_wanted(case: &str, only: &[String]) -> bool {
    only.is_empty() || only.iter().any(|part| case.contains(part.as_str()))
}

fn count(only: &[String], ours: bool) -> Figures {
    let mut figures = Figures::new();
    for case in case::names().into_iter().filter(|case| is_wanted(case, only)) {
        let mut copied = None;
        for contender in case::contenders(&case).into_iter().filter(|&name| !ours || name == OURS) {
            let measured = measure(&case, contender).and_then(|figure| {
                if !case::copies_first(&case, contender) {
                    return Ok(figure);
                }
                let copy = match copied {
                    Some(copy) => copy,
                    None => *copied.insert(measure(&case, case::COPY)?),
                };
                Ok([0, 1, 2].map(|unit| figure[unit] - copy[unit]))
            });
            match measured {
                Ok(measured) => {
                    for (unit, figure) in UNITS.into_iter().zip(measured) {
                        figures.insert((case.clone(), contender.to_owned(), unit.to_owned()), figure);
                    }
                    eprintln!("{case} {contender}: {:.0} instructions, {:.2} allocations", measured[0], measured[1]);
                }
                Err(error) => eprintln!("{case} {contender}: {error}"),
            }
        }
    }
    figures
}

/// Figures per operation, in the order of `UNITS`.
fn measure(case: &str, contender: &str) -> Outcome<[f64; 3]> {
    const ROUNDS: [u64; 2] = [1, 3];
    let operations = number(case::prepare(case, contender)?.operations * (ROUNDS[1] - ROUNDS[0]));
    let instructions = [callgrind(case, contender, ROUNDS[0])?, callgrind(case, contender, ROUNDS[1])?];
    let (first, second) = (allocations(case, contender, ROUNDS[0])?, allocations(case, contender, ROUNDS[1])?);
    Ok([
        (instructions[1] - instructions[0]) / operations,
        (second.0 - first.0) / operations,
        (second.1 - first.1) / operations,
    ])
}

/// The shortest time of each, from several rounds: what else the machine does meets all of them alike.
fn times(only: &[String]) -> Figures {
    const ROUNDS: usize = 5;
    let mut figures = Figures::new();
    let timed_only = case::TIMED_ONLY.map(str::to_owned);
    for case in case::names().into_iter().chain(timed_only).filter(|case| is_wanted(case, only)) {
        let contenders = case::contenders(&case);
        let copies = contenders.iter().any(|contender| case::copies_first(&case, contender));
        let mut best = BTreeMap::new();
        for _ in 0..ROUNDS {
            for &contender in contenders.iter().chain(copies.then_some(&case::COPY)) {
                match timed(&case, contender) {
                    Ok(time) => {
                        best.entry(contender).and_modify(|best: &mut f64| *best = best.min(time)).or_insert(time);
                    }
                    Err(error) => eprintln!("{case} {contender}: {error}"),
                }
            }
        }
        let copy = best.remove(case::COPY).unwrap_or_default();
        for (contender, time) in best {
            let time = if case::copies_first(&case, contender) { time - copy } else { time };
            eprintln!("{case} {contender}: {time:.1} ns");
            figures.insert((case.clone(), contender.to_owned(), UNITS[3].to_owned()), time);
        }
    }
    figures
}

/// In a process of its own, as the others are.
fn timed(case: &str, contender: &str) -> Outcome<f64> {
    let output = Command::new(std::env::current_exe()?).args(["time", case, contender]).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned().into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// Nanoseconds of CPU time per operation: what a busy machine disturbs least is the shortest sample.
fn time(case: &str, contender: &str) -> Outcome<f64> {
    const SAMPLES: usize = 40;
    /// Whoever is slow gets fewer samples.
    const ENOUGH: Duration = Duration::from_millis(500);
    let mut prepared = case::prepare(case, contender)?;
    let cpu_time = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::try_from(now).unwrap_or_default()
    };
    let (mut best, mut spent) = (Duration::MAX, Duration::ZERO);
    for _ in 0..SAMPLES {
        let start = cpu_time();
        (prepared.run)();
        let sample = cpu_time().saturating_sub(start);
        best = best.min(sample);
        spent += sample;
        if spent > ENOUGH {
            break;
        }
    }
    Ok(best.as_secs_f64() * 1e9 / number(prepared.operations))
}

fn list(word: &str, observe: fn(&Codec, &Invalid) -> Behaviour) {
    println!("codec\tversion\twhat\tbehaviour");
    for codec in contender::codec::all().iter().filter(|codec| codec.name != OURS) {
        for packet in invalid::packets().iter().filter(|packet| codec.versions.contains(&packet.version)) {
            let behaviour = match observe(codec, packet) {
                Behaviour::Refuses => continue,
                Behaviour::Accepts => word,
                Behaviour::Panics => "panics",
            };
            println!("{}\t{}\t{}\t{behaviour}", codec.name, invalid::label(packet.version), packet.what);
        }
    }
}

fn rivals(figures: &Figures) -> String {
    let mut text = String::from("| ns | damselfly | fastest rival | fastest that is not left out | left out for |\n");
    text.push_str("|---|---:|---:|---:|---|\n");
    let times = |case: &str| -> Vec<(String, f64)> {
        let of_case = figures.iter().filter(|((name, _, unit), _)| name == case && unit == UNITS[3]);
        let mut times: Vec<_> = of_case.map(|((_, contender, _), &time)| (contender.clone(), time)).collect();
        times.sort_by(|a, b| a.1.total_cmp(&b.1));
        times
    };
    for case in case::names() {
        let times = times(&case);
        let Some(&(_, ours)) = times.iter().find(|(name, _)| name == OURS) else { continue };
        let rivals = || times.iter().filter(|(name, _)| name != OURS);
        let said = |rival: Option<&(String, f64)>| {
            rival.map_or_else(|| "none".to_owned(), |(name, time)| format!("{name} {time:.1} ({:.1}x)", time / ours))
        };
        if rivals().next().is_none() || !case::CODEC.iter().any(|part| case.starts_with(part)) {
            continue;
        }
        let reasons: Vec<_> =
            rivals().filter_map(|(name, _)| Some(format!("{name}: {}", invalid::left_out(&case, name)?))).collect();
        let remaining = rivals().find(|(name, _)| invalid::left_out(&case, name).is_none());
        let _ = writeln!(
            text,
            "| {case} | {ours:.1} | {} | {} | {} |",
            said(rivals().next()),
            said(remaining),
            reasons.join("; ")
        );
    }
    text
}

fn callgrind(case: &str, contender: &str, rounds: u64) -> Outcome<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["run", case, contender, &rounds.to_string()])
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    let log = String::from_utf8_lossy(&output.stderr);
    let collected = log.lines().find_map(|line| line.split_once("Collected : ")).map(|(_, count)| count.trim());
    match collected {
        Some(count) if output.status.success() => Ok(count.parse()?),
        _ => Err(log.lines().last().unwrap_or("no answer").to_owned().into()),
    }
}

/// Number and bytes, from the program beside this one that has a counting allocator.
fn allocations(case: &str, contender: &str, rounds: u64) -> Outcome<(f64, f64)> {
    let program = std::env::current_exe()?.with_file_name("allocations");
    let output = Command::new(&program)
        .args([case, contender, &rounds.to_string()])
        .output()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    let text = String::from_utf8(output.stdout)?;
    let (count, bytes) = text.trim().split_once(' ').ok_or("no answer about allocations")?;
    Ok((count.parse()?, bytes.parse()?))
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "far below 2^53")]
fn number(count: u64) -> f64 {
    count as f64
}

fn table(figures: &Figures) -> String {
    let mut text = String::from("| case | contender | instructions | to ours | ns | to ours | allocations | bytes |\n");
    text.push_str("|---|---|---:|---:|---:|---:|---:|---:|\n");
    let figure = |case: &str, contender: &str, unit: usize| {
        figures.get(&(case.to_owned(), contender.to_owned(), UNITS[unit].to_owned())).copied()
    };
    let said = |figure: Option<f64>, digits: usize| figure.map_or_else(String::new, |it| format!("{it:.digits$}"));
    let rows: BTreeSet<_> = figures.keys().map(|(case, contender, _)| (case, contender)).collect();
    for (case, contender) in rows {
        let [instructions, count, bytes, time] = [0, 1, 2, 3].map(|unit| figure(case, contender, unit));
        let ratio = |unit, value: Option<f64>| said(value.zip(figure(case, OURS, unit)).map(|(it, ours)| it / ours), 2);
        let _ = writeln!(
            text,
            "| {case} | {contender} | {} | {} | {} | {} | {} | {} |",
            said(instructions, 0),
            ratio(0, instructions),
            said(time, 1),
            ratio(3, time),
            said(count, 2),
            said(bytes, 0)
        );
    }
    text
}

/// Another compiler makes other instructions.
fn compiler() -> Outcome<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Adds them to what a record holds of other cases.
fn store(path: &Path, figures: &Figures) -> Outcome<()> {
    let mut all = if path.exists() { read(path)?.1 } else { Figures::new() };
    all.extend(figures.clone());
    Ok(fs::write(path, write(&compiler()?, &all))?)
}

/// The compiler in the first line, the names of the columns in the second.
fn write(compiler: &str, figures: &Figures) -> String {
    let mut text = format!("# {compiler}\ncase\tcontender\tunit\tfigure\n");
    for ((case, contender, unit), figure) in figures {
        let _ = writeln!(text, "{case}\t{contender}\t{unit}\t{figure:.2}");
    }
    text
}

fn read(path: &Path) -> Outcome<(String, Figures)> {
    let mut figures = Figures::new();
    let text = fs::read_to_string(path)?;
    let compiler =
        text.lines().next().and_then(|line| line.strip_prefix("# ")).ok_or("a record begins with its compiler")?;
    for line in text.lines().skip(2) {
        let [case, contender, unit, figure] = line.split('\t').collect::<Vec<_>>()[..] else {
            return Err(format!("not a line of a record: {line}").into());
        };
        figures.insert((case.to_owned(), contender.to_owned(), unit.to_owned()), figure.parse()?);
    }
    Ok((compiler.to_owned(), figures))
}

fn compare(now: &Figures, record: &Figures, tolerance: f64, same_compiler: bool) -> Outcome<()> {
    let mut worse = Vec::new();
    for (key @ (case, contender, unit), &figure) in now {
        // Time depends on the machine and on what else it does.
        let is_held = contender == OURS && unit != UNITS[3] && (same_compiler || unit != UNITS[0]);
        let Some(&recorded) = record.get(key).filter(|_| is_held) else { continue };
        // Half of one covers the last digit of figures near zero.
        if figure > recorded * (1.0 + tolerance / 100.0) + 0.005 {
            worse.push(format!("{case}: {figure:.2} {unit}, recorded {recorded:.2}"));
        }
    }
    if worse.is_empty() { Ok(()) } else { Err(worse.join("\n").into()) }
}
