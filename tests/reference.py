"""Independent definitions of all indicators, and a random volatility index.

They use NumPy and loops over windows, and neither TA-Lib nor pandas' rolling sums nor `patchscale`.
"""

import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pandas as pd

Array = np.ndarray


def random_vix(bars: pd.DataFrame, seed: int = 5) -> pd.DataFrame:
    """Return a mean-reverting index around 20 on the dates of the bars."""
    random = np.random.default_rng(seed)
    moves = 0.06 * random.standard_normal(len(bars))
    state = np.zeros(len(bars))
    for row in range(1, len(bars)):
        state[row] = 0.97 * state[row - 1] + moves[row]
    close = 20 * np.exp(state)
    return pd.DataFrame({"date": bars["date"], "close": close})


# windows


def rolling(f: Callable[..., float], n: int, *series: Array) -> Array:
    """Return f of every n consecutive values of the series, NaN where one of them is NaN."""
    out = np.full(len(series[0]), np.nan)
    for row in range(n - 1, len(out)):
        parts = [values[row - n + 1 : row + 1] for values in series]
        if not any(np.isnan(part).any() for part in parts):
            out[row] = f(*parts)
    return out


def earlier(x: Array, n: int) -> Array:
    return np.array([math.nan if row < n else x[row - n] for row in range(len(x))])


def change(x: Array, n: int = 1) -> Array:
    return x - earlier(x, n)


def percent(x: Array, base: Array) -> Array:
    return 100 * (x / base - 1)


def sma(x: Array, n: int) -> Array:
    return rolling(np.mean, n, x)


def sigma(x: Array, n: int) -> Array:
    return rolling(lambda w: np.std(w, ddof=1), n, x)


def zscore(x: Array, n: int) -> Array:
    return rolling(lambda w: (w[-1] - w.mean()) / w.std(ddof=1), n, x)


def percentile(x: Array, n: int) -> Array:
    """Return the share of the last n values below today's, percent."""
    return rolling(lambda w: 100 * np.mean(w < w[-1]), n, x)


def position(x: Array, low: Array, high: Array, n: int) -> Array:
    """Return the position of x in the range of n sessions, 0 to 1."""
    return rolling(lambda w, a, b: (w[-1] - a.min()) / (b.max() - a.min()), n, x, low, high)


def sessions_since_high(x: Array, n: int) -> Array:
    return rolling(lambda w: n - 1 - max(np.flatnonzero(w == w.max())), n, x)


def signed_run(x: Array) -> Array:
    """Return +k on the k-th day in a row above zero, -k below, 0 at zero."""
    out = np.full(len(x), np.nan)
    for row, value in enumerate(x):
        if math.isnan(value):
            continue
        before = out[row - 1] if row else math.nan
        sign = np.sign(value)
        out[row] = sign * (abs(before) + 1) if before * sign > 0 else sign
    return out


def since_cross(x: Array) -> Array:
    out = np.full(len(x), np.nan)
    for row, value in enumerate(x):
        if not math.isnan(value):
            same = row > 0 and x[row - 1] * value > 0
            out[row] = out[row - 1] + 1 if same else 0
    return out


# averages


def exponential(x: Array, span: int) -> Array:
    """Return the exponential average that starts at the first value."""
    first = int(np.isnan(x).sum())
    out = np.full(len(x), np.nan)
    out[first] = x[first]
    for row in range(first + 1, len(x)):
        out[row] = out[row - 1] + (x[row] - out[row - 1]) * 2 / (span + 1)
    return out


def ewm(x: Array, span: int) -> Array:
    """Return the exponential average without its first span - 1 values."""
    out = exponential(x, span)
    out[: int(np.isnan(x).sum()) + span - 1] = np.nan
    return out


def ema(x: Array, period: int, first: int | None = None) -> Array:
    """Return the EMA that starts as the mean of the `period` values up to row `first`."""
    start = (period - 1 + int(np.isnan(x).sum())) if first is None else first
    out = np.full(len(x), np.nan)
    out[start] = x[start - period + 1 : start + 1].mean()
    for row in range(start + 1, len(x)):
        out[row] = out[row - 1] + (x[row] - out[row - 1]) * 2 / (period + 1)
    return out


def wilder(x: Array, period: int, first: int) -> Array:
    """Return Wilder's average that starts as the mean of the `period` values up to `first`."""
    out = np.full(len(x), np.nan)
    out[first] = x[first - period + 1 : first + 1].mean()
    for row in range(first + 1, len(x)):
        out[row] = (out[row - 1] * (period - 1) + x[row]) / period
    return out


def dema(x: Array, period: int) -> Array:
    once = ema(x, period)
    return 2 * once - ema(once, period)


def tema(x: Array, period: int) -> Array:
    once = ema(x, period)
    twice = ema(once, period)
    return 3 * once - 3 * twice + ema(twice, period)


def wma(x: Array, period: int) -> Array:
    weights = np.arange(1, period + 1)
    return rolling(lambda w: (w * weights).sum() / weights.sum(), period, x)


def hma(x: Array, period: int) -> Array:
    return wma(2 * wma(x, period // 2) - wma(x, period), int(math.sqrt(period)))


def kama(x: Array, period: int) -> Array:
    """Return Kaufman's average; before its first value it is yesterday's close."""
    out = np.full(len(x), np.nan)
    average = x[period - 1]
    for row in range(period, len(x)):
        way = np.abs(np.diff(x[row - period : row + 1])).sum()
        efficiency = abs(x[row] - x[row - period]) / way
        speed = (efficiency * (2 / 3 - 2 / 31) + 2 / 31) ** 2
        average += speed * (x[row] - average)
        out[row] = average
    return out


def vwma(x: Array, volume: Array, n: int) -> Array:
    return rolling(lambda p, v: (p * v).sum() / v.sum(), n, x, volume)


# oscillators and trend


def rsi(close: Array, period: int = 14) -> Array:
    move = change(close)
    gain = wilder(np.where(move > 0, move, 0.0), period, period)
    loss = wilder(np.where(move < 0, -move, 0.0), period, period)
    return 100 - 100 / (1 + gain / loss)


def stochrsi(close: Array) -> Array:
    values = rsi(close)
    return 100 * position(values, values, values, 5)


def weekly(dates: Array, close: Array, indicator: Callable[[Array], Array]) -> Array:
    """Return an indicator of weekly closes, each known from the first session of the next week."""
    weeks = pd.Series(pd.DatetimeIndex(dates)).dt.to_period("W-SUN")
    closes = pd.Series(close).groupby(weeks).last()
    known = pd.Series(indicator(closes.to_numpy()), index=closes.index).shift(1)
    return weeks.map(known).to_numpy(dtype=float)


def macd(close: Array, fast: int, slow: int, signal: int) -> tuple[Array, Array, Array]:
    """Return line, signal and histogram; both averages start where the slow one can."""
    line = ema(close, fast, first=slow - 1) - ema(close, slow, first=slow - 1)
    average = ema(line, signal)
    line = np.where(np.isnan(average), np.nan, line)
    return line, average, line - average


def schaff_trend_cycle(close: Array) -> Array:
    line = macd(close, 23, 50, 10)[0]
    cycle = line
    for _ in range(2):
        place = rolling(
            lambda w: 100 * (w[-1] - w.min()) / np.ptp(w) if np.ptp(w) else 50.0, 10, cycle
        )
        cycle = ewm(place, 3)
    return np.clip(cycle, 0, 100)


def true_range(high: Array, low: Array, close: Array) -> Array:
    before = earlier(close, 1)
    return np.max([high - low, np.abs(high - before), np.abs(low - before)], axis=0)


def atr(high: Array, low: Array, close: Array, period: int) -> Array:
    return wilder(true_range(high, low, close), period, period)


def directional(high: Array, low: Array, close: Array, period: int) -> tuple[Array, Array]:
    """Return +DI and -DI from Wilder's running sums; the first holds a day less than the period."""
    up, down = change(high), -change(low)
    moves = [
        np.where((up > down) & (up > 0), up, 0.0),
        np.where((down > up) & (down > 0), down, 0.0),
        true_range(high, low, close),
    ]
    sums = []
    for move in moves:
        total = np.full(len(close), np.nan)
        total[period - 1] = move[1:period].sum()
        for row in range(period, len(close)):
            total[row] = total[row - 1] * (period - 1) / period + move[row]
        total[period - 1] = np.nan
        sums.append(total)
    return 100 * sums[0] / sums[2], 100 * sums[1] / sums[2]


def adx(high: Array, low: Array, close: Array, period: int) -> Array:
    plus, minus = directional(high, low, close, period)
    return wilder(100 * np.abs(plus - minus) / (plus + minus), period, 2 * period - 1)


def aroon_oscillator(high: Array, low: Array, n: int) -> Array:
    return rolling(lambda h, a: 100 * (float(h.argmax()) - float(a.argmin())) / n, n + 1, high, low)


def cci(typical: Array, n: int) -> Array:
    return rolling(lambda w: (w[-1] - w.mean()) / (0.015 * np.abs(w - w.mean()).mean()), n, typical)


def money_flow_index(typical: Array, volume: Array, n: int) -> Array:
    move = change(typical)
    flow = typical * volume
    return rolling(lambda m, f: 100 * f[m > 0].sum() / f[m != 0].sum(), n, move, flow)


def supertrend(high: Array, low: Array, close: Array, n: int, width: float) -> tuple[Array, Array]:
    """Return line and direction; a band only narrows until a close beyond it changes the trend."""
    reach = width * atr(high, low, close, n)
    upper, lower = (high + low) / 2 + reach, (high + low) / 2 - reach
    line, direction = np.full(len(close), np.nan), np.full(len(close), np.nan)
    trend = 1
    for row in range(n, len(close)):
        if row > n and close[row - 1] <= upper[row - 1]:
            upper[row] = min(upper[row], upper[row - 1])
        if row > n and close[row - 1] >= lower[row - 1]:
            lower[row] = max(lower[row], lower[row - 1])
        if trend == 1 and close[row] < lower[row]:
            trend = -1
        elif trend == -1 and close[row] > upper[row]:
            trend = 1
        line[row], direction[row] = (lower[row], 1) if trend == 1 else (upper[row], -1)
    return line, direction


# volume


def on_balance_volume(close: Array, volume: Array) -> Array:
    out = [volume[0]]
    for row in range(1, len(close)):
        out.append(out[-1] + np.sign(close[row] - close[row - 1]) * volume[row])
    return np.array(out)


def accumulation_distribution(high: Array, low: Array, close: Array, volume: Array) -> Array:
    return np.cumsum((2 * close - low - high) / (high - low) * volume)


def chaikin_oscillator(line: Array) -> Array:
    """Return EMA(3) - EMA(10) of the A/D line, from its tenth value on."""
    out = exponential(line, 3) - exponential(line, 10)
    out[:9] = np.nan
    return out


def volume_force(high: Array, low: Array, close: Array, volume: Array) -> Array:
    """Return Klinger's force; cm sums the ranges since the session before the trend changed."""
    out = np.full(len(close), np.nan)
    price, ranges = high + low + close, high - low
    trend, cm = 0, 0.0
    for row in range(1, len(close)):
        now, dm = 1 if price[row] > price[row - 1] else -1, ranges[row]
        cm = cm + dm if now == trend else ranges[row - 1] + dm
        trend = now
        out[row] = volume[row] * abs(2 * dm / cm - 1) * trend * 100
    return out


def klinger(high: Array, low: Array, close: Array, volume: Array) -> Array:
    force = volume_force(high, low, close, volume)
    return ewm(force, 34) - ewm(force, 55)


# risk and volatility


def sharpe(returns: Array, n: int) -> Array:
    return rolling(lambda w: w.mean() / w.std(ddof=1) * math.sqrt(252), n, returns)


def sortino(returns: Array, n: int) -> Array:
    return rolling(
        lambda w: w.mean() / np.where(w > 0, 0, w).std(ddof=1) * math.sqrt(252), n, returns
    )


def realised_volatility(log_returns: Array, n: int) -> Array:
    return 100 * math.sqrt(252) * sigma(log_returns, n)


def value_at_risk(returns: Array, n: int, q: float) -> Array:
    return rolling(lambda w: np.quantile(w, q), n, returns)


def expected_shortfall(returns: Array, n: int, q: float) -> Array:
    return rolling(lambda w: w[w <= np.quantile(w, q)].mean(), n, returns)


def expectancy(returns: Array, n: int) -> Array:
    """Return share of wins x average win - share of losses x average loss."""

    def of(w: Array) -> float:
        wins, losses = w[w > 0], -w[w < 0]
        won = len(wins) / n * wins.mean() if len(wins) else 0.0
        lost = len(losses) / n * losses.mean() if len(losses) else 0.0
        return won - lost

    return rolling(of, n, returns)


def parkinson(high: Array, low: Array, n: int) -> Array:
    day = np.log(high / low) ** 2 / (4 * math.log(2))
    return 100 * np.sqrt(252 * sma(day, n))


def garman_klass(open_: Array, high: Array, low: Array, close: Array, n: int) -> Array:
    day = 0.5 * np.log(high / low) ** 2 - (2 * math.log(2) - 1) * np.log(close / open_) ** 2
    return 100 * np.sqrt(252 * sma(day, n))


def rogers_satchell_day(open_: Array, high: Array, low: Array, close: Array) -> Array:
    u, d, c = np.log(high / open_), np.log(low / open_), np.log(close / open_)
    return u * (u - c) + d * (d - c)


def rogers_satchell(open_: Array, high: Array, low: Array, close: Array, n: int) -> Array:
    return 100 * np.sqrt(252 * sma(rogers_satchell_day(open_, high, low, close), n))


def yang_zhang(open_: Array, high: Array, low: Array, close: Array, n: int) -> Array:
    k = 0.34 / (1.34 + (n + 1) / (n - 1))
    overnight = sigma(np.log(open_) - np.log(earlier(close, 1)), n) ** 2
    session = sigma(np.log(close) - np.log(open_), n) ** 2
    drift_free = sma(rogers_satchell_day(open_, high, low, close), n)
    return 100 * np.sqrt(252 * (overnight + k * session + (1 - k) * drift_free))


# regression, candle and regime


def linreg_channel_position(close: Array, n: int) -> Array:
    """Return the position of the close between the regression line -+ 2 residual deviations."""

    def of(w: Array) -> float:
        rows = np.arange(n)
        fit = np.polyval(np.polyfit(rows, w, 1), rows)
        spread = 2 * (w - fit).std()
        return (w[-1] - (fit[-1] - spread)) / (2 * spread)

    return rolling(of, n, close)


def autocorrelation(returns: Array, n: int) -> Array:
    return rolling(lambda a, b: np.corrcoef(a, b)[0, 1], n, returns, earlier(returns, 1))


def gap_fill(open_: Array, high: Array, low: Array, close: Array) -> Array:
    """Return the part of the overnight gap that the day's range covers, percent."""
    out = np.full(len(close), np.nan)
    for row in range(1, len(close)):
        before = close[row - 1]
        if open_[row] == before:
            out[row] = 0.0
        elif open_[row] > before:
            out[row] = min(open_[row] - low[row], open_[row] - before) / (open_[row] - before)
        else:
            out[row] = min(high[row] - open_[row], before - open_[row]) / (before - open_[row])
    return 100 * out


def permutation_entropy(close: Array, order: int, n: int) -> Array:
    def of(w: Array) -> float:
        patterns = Counter(
            tuple(sorted(range(order), key=lambda k: w[at + k])) for at in range(n - order + 1)
        )
        shares = [count / (n - order + 1) for count in patterns.values()]
        return -sum(p * math.log(p) for p in shares) / math.log(math.factorial(order))

    return rolling(of, n, close)


def hurst(x: Array, n: int) -> Array:
    """Return the slope of log mean |x[t] - x[t - lag]| on log lag."""
    lags = [1, 2, 4, 8, 16]

    def of(w: Array) -> float:
        moves = [np.mean(np.abs(w[lag:] - w[:-lag])) for lag in lags]
        return np.polyfit(np.log(lags), np.log(moves), 1)[0]

    return rolling(of, n, x)
